int compare(const void *, const void *);
int (*comparator(void))(const void *, const void *) { return compare; }
int is_equal(int x) { return compare(&x, &x) == 0; }
