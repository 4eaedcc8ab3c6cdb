/* Two libraries define the same names, each with its own number. */
int number = NUMBER;

int tell(void) { return NUMBER; }
int *number_address(void) { return &number; }
int tell_own(void) { return tell(); }
