/* Says where it was found. */
int which(void) { return WHICH; }
