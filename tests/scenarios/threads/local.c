/* Thread-local data without a way to reach another thread's: WHICH is static and initialised, static and zero, or exported. */
#if WHICH == 1
static _Thread_local int hidden = 11;
#elif WHICH == 2
static _Thread_local int hidden;
#else
_Thread_local int hidden = 11;
#endif
int next_hidden(void) { return ++hidden; }
