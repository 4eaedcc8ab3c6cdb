#include <stdio.h>
extern int loads;
int *left_view(void), *right_view(void);
int left_add(int x), right_add(int x);
int main(void) {
    printf("same %d\n", left_view() == right_view());
    printf("left %d\n", left_add(1));
    printf("right %d\n", right_add(10));
    printf("loads %d\n", loads);
    return 0;
}
