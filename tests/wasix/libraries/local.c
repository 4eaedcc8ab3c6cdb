/* Thread-local data. OWN_BLOCKS: it makes the blocks of other threads itself, as WASIX's libraries do. */
_Thread_local int mine = 11;
_Thread_local char wide[16] __attribute__((aligned(32))) = "wide";
int all;

__attribute__((constructor)) static void construct(void) { mine += 100; }

#ifdef OWN_BLOCKS
void *lend(unsigned size);
void __wasm_init_tls(void *block);

void *__wasix_init_tls(void) {
    void *block = lend((unsigned)__builtin_wasm_tls_size());
    __wasm_init_tls(block);
    return block;
}
#endif

int bump(int by) {
    __atomic_add_fetch(&all, by, __ATOMIC_SEQ_CST);
    return mine += by;
}

int *address(void) { return &mine; }
int wide_is_right(void) { return wide[0] == 'w' && wide[3] == 'e' && wide[4] == 0 && (unsigned long)wide % 32 == 0; }
