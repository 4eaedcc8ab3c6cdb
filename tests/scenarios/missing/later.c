int absent_function(int x) { return 10 * x; }
