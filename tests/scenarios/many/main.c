#include <stdio.h>
int sum_20(int x);
int main(void) {
    printf("%d\n", sum_20(1000));
    return 0;
}
