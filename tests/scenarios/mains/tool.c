typedef int unary(int);
extern int main_value;
int main_twice(int x);

int tool_value = 70;
int tool_add(int a, int b) { return a + b; }
int tool_read(void) { return main_value; }
int tool_call(int x) { return main_twice(x) + 1; }
int tool_apply(unary *function, int x) { return function(x); }
unary *tool_main_pointer(void) { return main_twice; }
int tool_increment(int x) { return x + 1; }
unary *tool_pointer(void) { return tool_increment; }
int *tool_address(void) { return &tool_value; }
