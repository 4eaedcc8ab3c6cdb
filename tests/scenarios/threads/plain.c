/* N tells the copies of this library apart. Without NEED no copy needs another; no thread-local data without TLS. */
#include "threads.h"

extern int constructions;
#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)
#define BASE NAME(base, N) /* of its own name: one that others have, too, would mean the first one opened for all */
int BASE = 1000 * N;

#ifdef TLS
static _Thread_local int seen = N;
#define SEEN (seen == N ? 0 : 1 << 20)
#else
#define SEEN 0
#endif

__attribute__((constructor)) static void construct(void) { ADD(constructions, 1); }

static int plus_base(int x) { return x + BASE; }
static function volatile through = plus_base;

int id(int x) { return through(x) + SEEN; }
int minus(int x) { return BASE - x; }
int *base_address(void) { return &BASE; }
function id_pointer(void) { return id; }
int NAME(unique, N)(int x) { return x + N; }
#ifdef NEED
int NAME(unique, NEED)(int x);
int below(int x) { return NAME(unique, NEED)(x) + N; }
#endif
