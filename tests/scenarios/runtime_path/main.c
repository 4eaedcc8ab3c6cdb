#include <stdio.h>
int helper(void);
int main(void) {
    printf("%d\n", helper());
    return 0;
}
