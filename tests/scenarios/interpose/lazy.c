/* Binds `who` when it is called, and nothing else. */
int who(void);
int ask(void) { return who(); }
