/* Built twice: SIDE is left or right. */
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
extern int shared;
int *JOIN(SIDE, _view)(void) { return &shared; }
int JOIN(SIDE, _add)(int x) { return shared += x; }
