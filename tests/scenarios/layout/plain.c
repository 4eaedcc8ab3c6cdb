/* An ordinary program: where it has its parts, in the order of the test's names. */
#include <stdlib.h>
extern char __heap_base, __heap_end, __stack_low, __stack_high, __data_end, __global_base;
static char zeroed[5000];
const char *main_where(int which) {
    const char *all[] = {&__heap_base, &__heap_end, &__stack_low, &__stack_high, &__data_end, &__global_base};
    return zeroed[which] ? NULL : all[which];
}
int main(void) {
    char *block = malloc(1000);
    return block < &__heap_base;
}
