/* objects: the CPython types of this folder, for its C files alone: cffi does not see it.
 *
 * Every type here is a C type so that a call costs as much as a call of a builtin, and so that
 * CPython, which checks for signals between two steps of Python code, does not check between taking
 * a lock and storing it in an object that releases it. Rare calls, and explanations of errors, are
 * in Python (pylinker/sync).
 *
 * Protects: the GIL protects the objects, except for what pl_hold and the primitives below it say.
 * Blocks: as the primitives do, without the GIL.
 * Threads: any. */
#ifndef PL_PYTHON_OBJECTS_H
#define PL_PYTHON_OBJECTS_H

#if !defined(Py_GIL_DISABLED) && !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "hold.h"

#include <stddef.h>

/* A universe: owns its pl_shared, with the log. */
typedef struct {
    PyObject_HEAD pl_shared *shared;
} SharedObject;

/* The member of a group in the rendezvous: NULL before it joins, and after it has left. Python
 * calls pl_group_new_at and pl_group_free_at on it, and finalizes it (scope.h). */
typedef struct {
    PyObject_HEAD pl_group *group;
} GroupObject;

/* A topology token. */
typedef struct {
    PyObject_HEAD SharedObject *universe;
    pl_hold hold;
    char is_given; /* returned to a caller: dropping it while it is held is a ResourceWarning */
} TokenObject;

/* A guard of the lock for reading or writing. */
typedef struct {
    PyObject_HEAD SharedObject *universe;
    PyObject *state;    /* the protected state */
    PyObject *topology; /* the token that it was taken under, or None */
    pl_hold hold;
    char is_given;
} GuardObject;

/* The types, and InternalError of pylinker.errors. */
typedef struct {
    PyTypeObject *shared, *handle, *group, *token, *reader, *writer, *backoff, *block;
    PyObject *internal_error;
} pl_python_types;
extern pl_python_types pl_python;

/* Each adds its types to a dictionary. Returns 0, or -1 with an exception. */
int pl_python_add_scopes(PyObject *dictionary);
int pl_python_add_shared(PyObject *dictionary);
int pl_python_add_guards(PyObject *dictionary);
int pl_python_add_groups(PyObject *dictionary);

/* Creates a type and adds it to a dictionary under the last part of its name. Returns NULL with an
 * exception. */
PyTypeObject *pl_python_add_type(PyObject *dictionary, PyType_Spec *spec);

/* Create a guard or token that holds nothing and owns `state` and `topology`. NULL with an
 * exception. */
GuardObject *pl_python_new_guard(PyTypeObject *type, SharedObject *universe, PyObject *state,
                                 PyObject *topology);
TokenObject *pl_python_new_token(SharedObject *universe);

/* Returns the pl_group of a group; NULL with an InternalError for an object that is not a group, or
 * a group that has left its linker. */
pl_group *pl_python_group_of(PyObject *object);
/* Sets that InternalError; returns NULL. */
PyObject *pl_python_refuse_left(void);

/* Sets an exception of a class; returns NULL. */
PyObject *pl_python_refuse(PyObject *type, const char *format, ...);

/* scope.c: repeats a call until it returns. Returns the result, or NULL; `*interrupted` is the
 * first exception, or NULL. */
PyObject *pl_python_completed(PyObject *function, PyObject *arguments, PyObject **interrupted);
/* Fetches the current exception with its traceback; sets one unchanged. */
PyObject *pl_python_take_exception(void);
void pl_python_give_exception(PyObject *value);

#endif
