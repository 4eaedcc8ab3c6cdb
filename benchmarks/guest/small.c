/* A small library that is opened under many names: some data, a constructor, and imports as compilers make them. */
int program_callee(int x);

static int table[16] = {1, 2, 3};
static int constructed;

__attribute__((constructor)) static void construct(void) { constructed = table[1]; }

int small_add(int x, int y) { return x + y + constructed; }
int small_through(int x) { return program_callee(x); }
int *small_table(void) { return table; }
int (*small_pointer(void))(int) { return small_through; }
