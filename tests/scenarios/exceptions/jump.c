/* setjmp and longjmp, in two libraries: compiled with SIDE=1 it has the jumps, with SIDE=2 those who wait for them. */
typedef unsigned long jump_buffer[40]; /* larger than any libc's */

int setjmp(jump_buffer) __attribute__((returns_twice));
_Noreturn void longjmp(jump_buffer, int);

void leap(unsigned long *buffer, int value);
void leap_deep(unsigned long *buffer, int value, int depth);

#if SIDE == 1
void leap(unsigned long *buffer, int value) { longjmp(buffer, value); }
__attribute__((noinline)) void leap_deep(unsigned long *buffer, int value, int depth) {
    volatile char frame[64];
    frame[0] = (char)depth;
    if (depth)
        leap_deep(buffer, value, depth - 1);
    else
        longjmp(buffer, value);
    frame[1] = frame[0];
}
#else
/* What setjmp answers at the second time. */
int land(int value) {
    jump_buffer buffer;
    int result = setjmp(buffer);
    if (result)
        return 100 + result;
    leap(buffer, value);
    return -1;
}

/* Two buffers: an inner one that is not asked, and an outer one that is. */
static int inner(unsigned long *outer, int value) {
    jump_buffer buffer;
    if (setjmp(buffer))
        return -2;
    leap_deep(outer, value, 20);
    return -3;
}
int land_far(int value) {
    jump_buffer buffer;
    int result = setjmp(buffer);
    return result ? 200 + result : inner(buffer, value);
}

__attribute__((noinline)) int stack_now(void) {
    volatile char here[16];
    volatile char *volatile escape = here;
    return (int)(unsigned long)escape;
}

/* How often the stack pointer was another after a jump, of `times`. */
int stack_kept(int times) {
    int before = stack_now(), bad = 0;
    for (int i = 1; i <= times; i++)
        bad += land_far(i) != 200 + i || stack_now() != before;
    return bad;
}
#endif
