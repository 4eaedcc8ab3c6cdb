/* One of a chain of libraries: N is its number, BEFORE the number of the library it needs, if any. */
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
int JOIN(number_, N) = N;
#ifdef BEFORE
int JOIN(sum_, BEFORE)(int x);
extern int JOIN(number_, BEFORE);
int JOIN(sum_, N)(int x) { return N + x * (JOIN(number_, BEFORE) == BEFORE) + JOIN(sum_, BEFORE)(x); }
#else
int JOIN(sum_, N)(int x) { return N + x; }
#endif
