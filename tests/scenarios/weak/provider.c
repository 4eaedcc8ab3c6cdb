int maybe_function(int x) { return x + 1; }
int maybe_data = 42;
int chosen(void) { return 2; }
int chosen_data = 2;
