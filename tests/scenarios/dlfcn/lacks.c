int absent_function(int x);
int lacks_call(int a, int b) { return absent_function(a) + b; }
int lacks_fine(int a, int b) { return a - b; }
