#include "threads.h"

extern int constructions;
_Thread_local int calls = 100;
_Thread_local char aligned[40] __attribute__((aligned(32))) = "aligned";

__attribute__((constructor)) static void construct(void) { ADD(constructions, 1); }

int twice(int x) { return calls++, 2 * x; }
int get_calls(void) { return calls; }
int *calls_address(void) { return &calls; }
int aligned_is_right(void) { return aligned[0] == 'a' && aligned[6] == 'd' && aligned[7] == 0 && (unsigned long)aligned % 32 == 0; }
