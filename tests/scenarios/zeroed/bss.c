int area[20000];
void fill(void) {
    for (int i = 0; i < 20000; i++)
        area[i] = -1;
}
int count(void) {
    int used = 0;
    for (int i = 0; i < 20000; i++)
        used += area[i] != 0;
    return used;
}
