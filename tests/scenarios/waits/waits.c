/* Waits and notifications, with and without a static offset, between functions that have none. There is thread-local and other
   initialised data, so that the linker adds a start function, which has one of each as well. */
struct place {
    int word;
    int words[10];
    long long wide;
};

static _Thread_local int calls = 5;
static int three = 3;

int wait32(int *address, int expected, long long timeout) {
    calls++;
    return __builtin_wasm_memory_atomic_wait32(address, expected, timeout);
}
int wait32_at(struct place *place, int expected, long long timeout) {
    return __builtin_wasm_memory_atomic_wait32(&place->words[4], expected, timeout);
}
int triple(int x) { return x * three; }
int wait64(long long *address, long long expected, long long timeout) {
    return __builtin_wasm_memory_atomic_wait64(address, expected, timeout);
}
int wait64_at(struct place *place, long long expected, long long timeout) {
    return __builtin_wasm_memory_atomic_wait64(&place->wide, expected, timeout);
}
int get_calls(void) { return calls; }
int notify(int *address, int count) { return __builtin_wasm_memory_atomic_notify(address, count); }
int notify_twice(struct place *place, int count) {
    if (count == 0)
        return -1;
    return __builtin_wasm_memory_atomic_notify(&place->word, count) + __builtin_wasm_memory_atomic_notify(&place->words[4], count);
}
/* The bytes of the instructions, fe 01 02 00 and fe 00 02 00, in constants. */
int decoy(int x) { return x + 0x0002fe80; }
long long wide_decoy(long long x) { return (x ^ 0x000200fe000201fell) * 0x7e817f01020080fell; }
