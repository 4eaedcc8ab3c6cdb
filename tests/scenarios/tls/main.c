int counter_next(void), counter_scratch(void), plain_next(void), *counter_address(void);
char *block_address(void);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"))) _Noreturn void proc_exit(int status);

_Thread_local int mine = 5;
_Thread_local int seen;

int *main_address(void) { return &mine; }
int main_next(void) { return mine += counter_next(); }

void _start(void) {
    for (int i = 0; i < 3; i++)
        seen = counter_next(); /* 42, 43, 44 */
    mine += 1;                 /* 6 */
    char *block = block_address();
    int good = seen == 44 && counter_scratch() == 3 && *counter_address() == 44 && mine == 6 && plain_next() == 4 &&
               block[0] == 'b' && block[4] == 'k' && block[5] == 0 && (unsigned long)block % 64 == 0;
    proc_exit(good ? 17 : 1);
}
