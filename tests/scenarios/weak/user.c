int chosen(void);
extern int chosen_data;
int ask(void) { return chosen(); }
int ask_data(void) { return chosen_data; }
