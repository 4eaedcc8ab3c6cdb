/* scope: cleanup that runs to its end whatever exception interrupts it. For CPython.
 *
 * An exception of a signal handler is raised where the interpreter checks for signals: at the start
 * of a Python function, at a backward jump, after a call of a C function. So an __exit__, a
 * `finally` or an `except` in Python can be interrupted before its first step. These are in C,
 * where the interpreter does not check:
 *
 *   Scope       a context manager. `with` calls `enter()`, and at the end of the block, or if
 *               enter fails, `leave(exception or None)`.
 *   completed   completed(f, *args) calls f. For the work of an `except` or `finally`, and for
 *               steps that must be executed all or none.
 *
 *   Finalized   calls `_drop()` when it is deallocated. A `__del__` in Python loses an exception
 *               that a signal handler raises in it, and prints it; here it is raised a moment
 *               later, in the code that the main thread runs.
 *
 * These repeat a call that an exception has interrupted, up to TRIES times, until it returns; the
 * first exception is raised then. So `leave` and `f` must have the same final effect if they are
 * called again after any of their steps: each call does the rest. An exception that says that the
 * work is impossible (one of set_final's classes) is raised at once. A RecursionError is retried
 * with MARGIN more frames.
 *
 * A subclass of Scope has one object for each block, and stores what it holds where an interrupt
 * cannot lose it: in C, by calls that store what they take at an address.
 *
 * Protects: nothing.
 * Requires: the GIL.
 * Blocks: as the called functions do.
 * Threads: any. */
#ifndef PL_PYTHON_SCOPE_H
#define PL_PYTHON_SCOPE_H

#include <stdint.h>

/* Adds `Scope`, `Finalized`, `completed`, `set_final` and the types of objects.h to a dict, given
 * by its address, which has InternalError already. Returns 0 or -1. Called without the GIL. */
int pl_python_install(uintptr_t dictionary);

#endif
