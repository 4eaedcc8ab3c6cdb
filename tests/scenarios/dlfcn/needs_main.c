/* Takes a function and data from the program that opens it. */
extern int main_total;
int main_scale(int x);
int through_main(int a, int b) { return main_total += main_scale(a) + b; }
