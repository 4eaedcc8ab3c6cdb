#include <stdio.h>
#include <stdlib.h>
char *heap_base(void), *heap_end(void), *stack_low(void), *stack_high(void), *stack_now(void);
int main(void) {
    char *block = malloc(1000);
    printf("stack %d\n", stack_low() < stack_now() && stack_now() < stack_high());
    printf("heap %d\n", stack_high() <= heap_base() && heap_base() <= heap_end());
    printf("malloc %d\n", block >= stack_high());
    return 0;
}
