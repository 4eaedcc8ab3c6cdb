extern int absent_data;
int read_absent(void) { return absent_data; }
