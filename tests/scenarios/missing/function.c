int absent_function(int x);
int fine(int x) { return x + 1; }
int call_absent(int x) { return absent_function(x); }
