int who(void);
extern int tag;
int ask(void) { return who(); }
int ask_tag(void) { return tag; }
int (*ask_pointer(void))(void) { return who; }
