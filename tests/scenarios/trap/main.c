int above(void);
int main(void) { return above(); }
