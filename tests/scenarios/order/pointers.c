/* A constructor finds the data relocations of every module done, also of one that loads after it. */
extern int (*late_pointer)(void);
int early_result;
__attribute__((constructor)) static void start(void) { early_result = late_pointer(); }
int early(void) { return early_result; }
