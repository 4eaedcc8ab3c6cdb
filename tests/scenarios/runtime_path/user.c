int helper(void);
int user(void) { return 100 + helper(); }
