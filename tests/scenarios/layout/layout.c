/* The symbols that say where stack and heap are. */
extern char __heap_base, __heap_end, __stack_low, __stack_high;
char *heap_base(void) { return &__heap_base; }
char *heap_end(void) { return &__heap_end; }
char *stack_low(void) { return &__stack_low; }
char *stack_high(void) { return &__stack_high; }
char *stack_now(void) {
    char *volatile here;
    here = (char *)&here;
    return here;
}
