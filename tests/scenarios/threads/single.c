/* A program of one thread, with a memory of its own. */
int one(void) { return 1; }
int main(void) { return 0; }
