__attribute__((weak)) extern int maybe_function(int);
__attribute__((weak)) extern int maybe_data;

int has_function(void) { return maybe_function != 0; }
int has_data(void) { return &maybe_data != 0; }
int call_if_there(int x) { return maybe_function ? maybe_function(x) : -1; }
int read_if_there(void) { return &maybe_data ? maybe_data : -1; }
int call_anyway(int x) { return maybe_function(x); }

__attribute__((weak)) int chosen(void) { return 1; }
__attribute__((weak)) int chosen_data = 1;
int (*pointer_to_chosen(void))(void) { return chosen; }
int *pointer_to_data(void) { return &chosen_data; }
