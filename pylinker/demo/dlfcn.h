/* <dlfcn.h> for a program that carries zig's wasi-libc, with this folder first on the include path (-I).
 *
 * That C library defines dlopen and the others as weak stubs that always fail, and they would be linked into the program. Here
 * they get symbol names of their own, which no library defines, and are imported from where pylinker provides them. */
#include_next <dlfcn.h>

#ifndef PYLINKER_DLFCN_H
#define PYLINKER_DLFCN_H

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
