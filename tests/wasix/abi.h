/* The WASIX ABI as freestanding C sees it: what a program imports from the host to open libraries, to call functions whose type it
   learns at run time, and to have threads. All of it was seen under wasmer-sdk 0.5.0; docs of the functions are in wasix-libc's headers.

   Every function returns an error number, 0 for success. Pointers that leave the memory give MEMORY_VIOLATION. WASIX functions are
   in the module wasix_32v1, those of WASI preview 1 in wasi_snapshot_preview1, as wasix-libc has them; wasmer offers the latter in
   wasix_32v1, too (namespaces.c). */
#pragma once

#define IMPORT(module, symbol) __attribute__((import_module(module), import_name(symbol)))
#define WASI(symbol) IMPORT("wasi_snapshot_preview1", symbol)
#define WASIX(symbol) IMPORT("wasix_32v1", symbol)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

enum error { SUCCESS = 0, INVALID = 28, NOT_EXECUTABLE = 45, OVERFLOWED = 61, NOT_CAPABLE = 76, MEMORY_VIOLATION = 78, UNKNOWN = 79 };
enum clock { REALTIME, MONOTONIC, PROCESS_TIME, THREAD_TIME };
enum value_type { I32, I64, F32, F64, V128 }; /* one byte each, in lists of types */
enum signal { SIGINT = 2, SIGKILL = 9, SIGUSR1 = 10, SIGUSR2 = 12 };

/* Flags of dlopen. wasmer looks at none: what is opened is there for all. */
enum { NOW = 2, FOR_ALL = 0x100 };

/* Handles of dlsym that no dlopen returns. */
enum { EVERYWHERE = 0, MAIN = 1, NO_HANDLE = ~0 };

/* Open libraries. `path` 0 is the program itself. A name without a slash is searched for in the directories of `library_path`, which
   colons separate, and then in /lib, /usr/lib and /usr/local/lib. The text of an error is cut to fit `error_size` and ends in a 0. */
WASIX("dlopen")
int dlopen(const char *path, u32 path_length, u32 flags, char *error, u32 error_size, const char *library_path, u32 library_path_length,
           u32 *handle);
WASIX("dlsym") int dlsym(u32 handle, const char *symbol, u32 symbol_length, char *error, u32 error_size, void **address);
WASIX("dl_invalid_handle") int dl_invalid_handle(u32 handle);

/* Closures: functions made at run time. `allocate` gives a slot of the table, `prepare` puts a function of the given type there, which
   stores its arguments one after the other, without padding, calls backing(arguments, results, environment), and loads its results. */
WASIX("closure_allocate") int closure_allocate(u32 *closure);
WASIX("closure_prepare")
int closure_prepare(u32 backing, u32 closure, const u8 *arguments, u32 argument_count, const u8 *results, u32 result_count,
                    void *environment);
WASIX("closure_free") int closure_free(u32 closure);

/* Calls a function of any type; values are laid out as those of a closure. Sizes are in bytes. With `strict` 1 they must fit. */
WASIX("call_dynamic")
int call_dynamic(u32 function, const void *arguments, u32 arguments_size, void *results, u32 results_size, int strict);

struct signature {
    u8 cacheable; /* 0: the slot is a closure's and may change its type */
    u16 arguments, results;
};

WASIX("reflect_signature")
int reflect_signature(u32 function, u8 *arguments, int argument_limit, u8 *results, int result_limit, struct signature *signature);

/* The new thread begins in the export wasi_thread_start(number, start), without a stack. */
struct thread_start {
    void *stack; /* its end: stacks grow down */
    void *thread_local_block;
    void (*function)(int);
    int argument;
    u32 reserved[10];
    u32 stack_size, guard_size;
};

WASIX("thread_spawn_v2") int thread_spawn_v2(const struct thread_start *start, u32 *thread);
WASIX("thread_exit") _Noreturn void thread_exit(u32 status);
WASIX("thread_join") int thread_join(u32 thread);
WASIX("thread_id") int thread_id(u32 *thread);
WASIX("thread_parallelism") int thread_parallelism(u32 *count);
WASIX("thread_sleep") int thread_sleep(u64 nanoseconds);

/* `callback_signal` names an export of type (i32) that hears the signals of the calling thread. It returns nothing. */
WASIX("thread_signal") int thread_signal(u32 thread, int signal);
WASIX("callback_signal") void callback_signal(const char *name, u32 name_length);

struct timeout {
    u8 given; /* 0: for ever */
    u64 nanoseconds;
};

/* `woken` is 0 after a time-out, else 1: also where the word has another value, and always from the two that wake. */
WASIX("futex_wait") int futex_wait(u32 *word, u32 expected, const struct timeout *timeout, u8 *woken);
WASIX("futex_wake") int futex_wake(u32 *word, u8 *woken);
WASIX("futex_wake_all") int futex_wake_all(u32 *word, u8 *woken);

WASIX("proc_id") int proc_id(u32 *process);
WASIX("proc_exit2") _Noreturn void proc_exit2(int status);

struct bytes {
    const void *data;
    u32 size;
};

WASI("args_sizes_get") int args_sizes_get(u32 *count, u32 *size);
WASI("args_get") int args_get(char **list, char *buffer);
WASI("clock_time_get") int clock_time_get(u32 clock, u64 precision, u64 *nanoseconds);
WASI("clock_res_get") int clock_res_get(u32 clock, u64 *nanoseconds);
WASIX("clock_time_set") int clock_time_set(u32 clock, u64 nanoseconds);
WASI("fd_write") int fd_write(int descriptor, const struct bytes *list, int count, u32 *written);
WASI("sched_yield") int sched_yield(void);

_Static_assert(sizeof(void *) == 4 && sizeof(struct thread_start) == 64, "as thread_spawn_v2 reads it");
_Static_assert(__builtin_offsetof(struct thread_start, stack_size) == 56, "as thread_spawn_v2 reads it");
_Static_assert(sizeof(struct signature) == 6 && __builtin_offsetof(struct signature, arguments) == 2, "as reflect_signature writes it");
_Static_assert(sizeof(struct timeout) == 16, "as futex_wait reads it");
