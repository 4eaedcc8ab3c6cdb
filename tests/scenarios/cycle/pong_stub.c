/* Only for the linker: libping.so has to name libpong.so before that can exist. */
int pong_calls;
int pong(int n) { return n; }
