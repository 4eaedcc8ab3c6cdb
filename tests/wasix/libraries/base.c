/* Needed by libtop.so. */
int base_value = 5;

int base(int x) { return x + base_value; }
