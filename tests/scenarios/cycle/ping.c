int pong(int n);
extern int pong_calls;

int ping_calls, ping_started;
int *ping_view = &pong_calls; /* the other library's data, in this one's */

__attribute__((constructor)) static void start(void) { ping_started += 1; }

int ping(int n) {
    ping_calls += 1;
    return n == 0 ? 0 : 1 + pong(n - 1);
}
