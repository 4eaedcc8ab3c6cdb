#include <stdio.h>
int ask(void), ask_tag(void), who(void);
int (*ask_pointer(void))(void);
int main(void) {
    printf("%d %d %d %d\n", ask(), ask_tag(), ask_pointer()(), who());
    return 0;
}
