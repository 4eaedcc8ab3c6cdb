/* Needs libbase.so, and the program for a function and a value. */
extern int base_value, program_value;
int base(int x), program_function(int x);

int top(int x) { return base(x) * 10; }
int *base_address(void) { return &base_value; }
int through_program(int x) { return program_function(x) + program_value; }
