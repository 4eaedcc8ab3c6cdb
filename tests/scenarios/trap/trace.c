char trace[256];
int length;
void record(char what) { trace[length++] = what; }
