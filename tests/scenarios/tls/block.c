_Thread_local char block[48] __attribute__((aligned(64))) = "block";
char *block_address(void) { return block; }
