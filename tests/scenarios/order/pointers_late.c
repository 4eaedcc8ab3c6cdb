int early(void);
static int answer(void) { return 42; }
int (*late_pointer)(void) = answer;
int late(void) { return early(); }
