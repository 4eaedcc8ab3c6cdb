/* The functions of WASI preview 1 by their other module name, with the same effect. And arguments. */
#include "guest.h"

WASIX("args_sizes_get") int other_args_sizes_get(u32 *count, u32 *size);
WASIX("args_get") int other_args_get(char **list, char *buffer);
WASIX("clock_time_get") int other_clock_time_get(u32 clock, u64 precision, u64 *nanoseconds);
WASIX("fd_write") int other_fd_write(int descriptor, const struct bytes *list, int count, u32 *written);
WASIX("sched_yield") int other_sched_yield(void);
WASIX("proc_exit") _Noreturn void other_proc_exit(int status);

void _start(void) {
    struct bytes list[2] = {{TEXT("two ")}, {TEXT("parts\n")}};
    u32 written = 0, count = 0, size = 0;
    print("%d", other_fd_write(1, list, 2, &written));
    print(" %d\n", written);
    u64 time = 0, later = 0;
    print("%d", other_clock_time_get(MONOTONIC, 1, &time));
    print(" %d\n", time > 0 && !clock_time_get(MONOTONIC, 1, &later) && later >= time);
    print("%d\n", other_sched_yield());
    char *arguments[4], buffer[64];
    print("%d", other_args_sizes_get(&count, &size));
    print(" %d", count);
    print(" %d\n", other_args_get(arguments, buffer));
    for (u32 i = 1; i < count && i < 4; i++)
        print("%s\n", arguments[i]);
    print("outside: %d %d\n", args_sizes_get(OUTSIDE, &size), args_get(OUTSIDE, buffer));
    other_proc_exit(6);
}
