/* <dlfcn.h> for a program that carries its C library (zig's, wasi-sdk's, Debian's), with this folder first on the include path (-I).
 *
 * A C library for WASI has weak stubs of dlopen and the others that always fail and would be linked into the program, or has none.
 * Here the functions get symbol names of their own, which no library defines, and are imported from where pylinker provides them. */
#ifndef PYLINKER_DLFCN_H
#define PYLINKER_DLFCN_H

#define RTLD_LAZY 1
#define RTLD_NOW 2
#define RTLD_NOLOAD 4
#define RTLD_LOCAL 8
#define RTLD_GLOBAL 256
#define RTLD_NODELETE 4096

#define RTLD_NEXT ((void *)-1)
#define RTLD_DEFAULT ((void *)0)

#ifdef __cplusplus
extern "C" {
#endif

#define PYLINKER_HOST(name) __asm__("pylinker_" #name) __attribute__((import_module("env"), import_name(#name)))
void *dlopen(const char *, int) PYLINKER_HOST(dlopen);
void *dlsym(void *__restrict, const char *__restrict) PYLINKER_HOST(dlsym);
int dlclose(void *) PYLINKER_HOST(dlclose);
char *dlerror(void) PYLINKER_HOST(dlerror);
#ifdef _GNU_SOURCE
typedef struct {
    const char *dli_fname;
    void *dli_fbase;
    const char *dli_sname;
    void *dli_saddr;
} Dl_info;
int dladdr(const void *, Dl_info *) PYLINKER_HOST(dladdr);
#endif
#undef PYLINKER_HOST

#ifdef __cplusplus
}
#endif

#endif
