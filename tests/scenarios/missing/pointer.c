int absent_function(int x);
int (*pointer_to_absent(void))(int) { return absent_function; }
