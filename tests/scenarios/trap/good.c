int inner(void);
int good(int x) { return x + inner(); }
