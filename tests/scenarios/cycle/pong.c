int ping(int n);
extern int ping_calls;

int pong_calls, pong_started;
int (*pong_entry)(int) = ping; /* the other library's function, in this one's data */

__attribute__((constructor)) static void start(void) { pong_started += 1; }

int pong(int n) {
    pong_calls += 1;
    return n == 0 ? 0 : 1 + pong_entry(n - 1);
}
