/* Its constructor throws. */
#include "thrown.h"

static int start = toss(INT, 3);

extern "C" int started(void) { return start; }
