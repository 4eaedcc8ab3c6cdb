/* Nothing that waits, and no data for a start function to initialise: the module has no atomic instruction. */
int twice(int x) { return 2 * x; }
double bytes(double x) { return x + 0x1.201fe000201fep+33; } /* fe 01 02 00 fe 01 02 42 */
