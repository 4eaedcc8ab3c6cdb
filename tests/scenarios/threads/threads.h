/* What freestanding C needs to be a threaded WASI program: imports, and atomics by short names. */
#pragma once

#define IMPORT(module, symbol) __attribute__((import_module(module), import_name(symbol)))
#define WASI(symbol) IMPORT("wasi_snapshot_preview1", symbol)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int (*function)(int);

struct bytes {
    const void *data;
    u32 size;
};

IMPORT("wasi", "thread-spawn") int thread_spawn(void *start);
IMPORT("env", "dlopen") void *dlopen(const char *name, int flags);
IMPORT("env", "dlsym") void *dlsym(void *handle, const char *name);
IMPORT("env", "dlclose") int dlclose(void *handle);
IMPORT("env", "dlerror") char *dlerror(void);
WASI("sched_yield") int yield(void);
WASI("proc_exit") _Noreturn void proc_exit(int status);
WASI("args_sizes_get") int args_sizes_get(u32 *count, u32 *size);
WASI("args_get") int args_get(char **list, char *buffer);
WASI("fd_write") int fd_write(int fd, const struct bytes *list, int count, u32 *written);
WASI("fd_read") int fd_read(int fd, const struct bytes *list, int count, u32 *read);
WASI("fd_seek") int fd_seek(int fd, long long offset, int whence, u64 *position);
WASI("fd_close") int fd_close(int fd);
WASI("path_open")
int path_open(int fd, int lookup, const char *path, int length, int flags, u64 rights, u64 inheriting, int fdflags, int *opened);
WASI("poll_oneoff") int poll_oneoff(const void *subscriptions, void *events, int count, u32 *happened);

#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_SEQ_CST)
#define STORE(variable, value) __atomic_store_n(&(variable), (value), __ATOMIC_SEQ_CST)
#define ADD(variable, value) __atomic_add_fetch(&(variable), (value), __ATOMIC_SEQ_CST)
