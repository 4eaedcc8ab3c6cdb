#include <stdio.h>
typedef int function(int);
function shared, *owner_shared(void), *other_shared(void), *other_from_main(void);
extern function *owner_static, *other_static;
int from_main(int x) { return x - 1; }
function *main_static = shared;
int main(void) {
    function *here = shared;
    printf("shared %d %d %d %d %d\n", owner_shared() == here, other_shared() == here, owner_static == here,
           other_static == here, main_static == here);
    printf("from_main %d\n", other_from_main() == from_main);
    printf("calls %d %d\n", other_shared()(1), other_from_main()(1));
    printf("slots %d %d\n", (int)here, (int)from_main);
    return 0;
}
