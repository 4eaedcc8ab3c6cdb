/* Records LETTER when it starts and the small letter when it stops. BELOW is a function of the library it needs. */
void record(char what);
__attribute__((constructor)) static void start(void) { record(LETTER); }
__attribute__((destructor)) static void stop(void) { record(LETTER + 'a' - 'A'); }
#ifdef BELOW
int BELOW(void);
int NAME(void) { return 1 + BELOW(); }
#else
int NAME(void) { return 1; }
#endif
