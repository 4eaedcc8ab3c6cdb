void record(char what);
__attribute__((constructor(300))) static void third(void) { record('3'); }
__attribute__((constructor(101))) static void first(void) { record('1'); }
__attribute__((constructor(200))) static void second(void) { record('2'); }
__attribute__((destructor(101))) static void last_down(void) { record('a'); }
__attribute__((destructor(200))) static void first_down(void) { record('b'); }
int priorities(void) { return 3; }
