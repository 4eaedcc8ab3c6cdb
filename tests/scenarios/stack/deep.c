int guard[64] = {1, 2, 3};

__attribute__((noinline)) static void touch(volatile char *pad) { pad[0] = 1; }

int deep(int n) {
    volatile char pad[4096];
    touch(pad);
    return n == 0 ? pad[0] : pad[0] + deep(n - 1);
}

int guard_sum(void) {
    int sum = 0;
    for (int i = 0; i < 64; i++)
        sum += guard[i];
    return sum;
}
