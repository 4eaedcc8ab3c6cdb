/* A library of its own: functions, a value, and a constructor that counts itself. */
int value = 7;

static int count;

__attribute__((constructor)) static void construct(void) { __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST); }

int constructions(void) { return count; }
int twice(int x) { return 2 * x; }
int thrice(int x) { return 3 * x; }
