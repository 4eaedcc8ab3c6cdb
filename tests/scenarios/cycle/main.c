#include <stdio.h>
extern int ping_calls, pong_calls, ping_started, pong_started;
extern int *ping_view;
int ping(int n), pong(int n);
int main(void) {
    printf("ping %d\n", ping(9));
    printf("pong %d\n", pong(4));
    printf("calls %d %d\n", ping_calls, pong_calls);
    printf("view %d\n", ping_view == &pong_calls);
    printf("started %d %d\n", ping_started, pong_started);
    return 0;
}
