int middle(int x);
int top(int x) { return 100 + middle(x); }
