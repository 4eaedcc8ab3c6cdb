int base(int x);
int middle(int x) { return 10 * base(x); }
