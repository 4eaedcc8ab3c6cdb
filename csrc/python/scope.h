/* scope: what must be undone is undone, whatever exception comes in between. For CPython.
 *
 * An exception of a signal handler appears where the interpreter looks for signals: at the start
 * of a Python function, at a backward jump, after a call of a C function. So an __exit__, a
 * `finally` or an `except` that are written in Python can be interrupted before their first
 * step. These are written in C, where the interpreter does not look:
 *
 *   Scope       a context manager. `with` calls `enter()`, and at the end of the block, or if
 *               enter fails, `leave(exception or None)`.
 *   completed   completed(f, *args) calls f. For what an `except` or `finally` has to do, and
 *               for steps that must be done all or none.
 *
 *   Finalized   calls `_drop()` when it is dropped. A `__del__` of Python's loses an exception
 *               that a signal handler raises in it, and prints it; here it is raised a moment
 *               later, in what the main thread runs.
 *
 * These call again what an exception has interrupted, up to TRIES times, until it returns; the
 * first exception is raised then. So `leave` and `f` must come to the same end if they are
 * called again after any of their steps: each does what remains. An exception that says that it
 * cannot be done (one of set_final's classes) is raised at once. A RecursionError is tried again
 * with MARGIN more frames.
 *
 * A subclass of Scope has one object for each block, and keeps what it holds where an interrupt
 * cannot lose it: in C, by calls that store what they take at an address.
 *
 * Blocking: what is called. Threads: any, with the GIL. */
#ifndef PL_PYTHON_SCOPE_H
#define PL_PYTHON_SCOPE_H

#include <stdint.h>

/* Puts `Scope`, `Finalized`, `completed`, `set_final` and the types of objects.h into a dict,
 * given by its address, which has InternalError already. Returns 0 or -1. Without the GIL. */
int pl_python_install(uintptr_t dictionary);

#endif
