/* Calls a function that the host gives. */
extern "C" int ask(int x);
extern "C" int asking(int x) { return ask(x); }
