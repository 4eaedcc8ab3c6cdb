void record(char what);
int trapping(void);
__attribute__((constructor)) static void start(void) { record('A'); }
int above(void) { return trapping(); }
