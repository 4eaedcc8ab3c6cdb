_Thread_local int counter = 41;
_Thread_local int scratch[4];
int counter_next(void) {
    scratch[1] += 1;
    return ++counter;
}
int counter_scratch(void) { return scratch[1]; }
int *counter_address(void) { return &counter; }
