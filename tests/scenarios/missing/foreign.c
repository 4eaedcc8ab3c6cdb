__attribute__((import_module("host"), import_name("callback"))) int callback(int x);
int fine(int x) { return x + 1; }
int call_callback(int x) { return callback(x); }
