/* <dlfcn.h> for a program that links libc statically: wasi-libc.a has stubs of these functions that only fail, and they
   would win over an import. Imports under other C names reach the linker's own functions. */
#pragma once
#include <dlfcn.h>

#define IMPORT(symbol) __attribute__((import_module("env"), import_name(symbol)))
IMPORT("dlopen") void *guest_dlopen(const char *name, int flags);
IMPORT("dlsym") void *guest_dlsym(void *handle, const char *name);
IMPORT("dlclose") int guest_dlclose(void *handle);
IMPORT("dlerror") char *guest_dlerror(void);
#undef IMPORT

#define dlopen guest_dlopen
#define dlsym guest_dlsym
#define dlclose guest_dlclose
#define dlerror guest_dlerror
