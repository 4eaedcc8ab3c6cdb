int absent_one(void), absent_two(int x), absent_three(void);
extern int absent_data;
int call_all(void) { return absent_one() + absent_two(1); }
int (*pointer(void))(void) { return absent_three; }
int data(void) { return absent_data; }
