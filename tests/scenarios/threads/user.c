int twice(int x), nobody_defines_this(int x);
int user_twice(int x) { return twice(x) + 1; }
int user_undefined(int x) { return nobody_defines_this(x); }
