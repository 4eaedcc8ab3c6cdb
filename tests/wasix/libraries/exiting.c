/* Its constructor exits. */
#include "../abi.h"

__attribute__((constructor)) static void construct(void) { proc_exit2(17); }

int answer(void) { return 42; }
