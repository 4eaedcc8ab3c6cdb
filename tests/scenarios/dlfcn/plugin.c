int plugin_value = 11;
int plugin_add(int a, int b) { return a + b; }
int plugin_bump(int a, int b) { return plugin_value += a * b; }
