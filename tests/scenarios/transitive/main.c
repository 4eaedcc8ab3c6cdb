#include <stdio.h>
int top(int x);
int main(void) {
    printf("%d\n", top(4));
    return 0;
}
