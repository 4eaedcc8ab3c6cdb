/* Tells the address of a function of libowner.so, which it needs. */
int owned(int x);

void *other_pointer(void) { return (void *)owned; }
int call_pointer(int (*function)(int), int x) { return function(x); }
