/* Owns a function, and tells its address. */
int program_function(int x);

int owned(int x) { return x + 1; }
void *owner_pointer(void) { return (void *)owned; }
void *program_pointer(void) { return (void *)program_function; }
