/* A library of the same program without any thread-local data. */
int plain = 3;
int plain_next(void) { return ++plain; }
