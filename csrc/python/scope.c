/* Discipline: all code here runs with the GIL. */
#include "scope.h"

#include "objects.h"

#include <stdarg.h>
#include <string.h>

#pragma GCC diagnostic ignored                                                                     \
    "-Wdeprecated-declarations" /* PyErr_Fetch: its replacement exists since 3.12 */

enum { TRIES = 8, MARGIN = 200 };

pl_python_types pl_python;

static PyObject *final_classes; /* a class or a tuple of classes, or NULL */

/* Fetches the current exception with its traceback. */
PyObject *pl_python_take_exception(void) {
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    PyErr_NormalizeException(&kind, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(kind);
    Py_XDECREF(traceback);
    return value;
}

/* Sets an exception unchanged, with its context. */
void pl_python_give_exception(PyObject *value) {
    PyObject *kind = (PyObject *)Py_TYPE(value);
    Py_INCREF(kind);
    PyErr_Restore(kind, value, PyException_GetTraceback(value));
}

static int is_final(PyObject *value) {
    return final_classes != NULL && PyErr_GivenExceptionMatches(value, final_classes);
}

/* Repeats a call until it returns. Returns the result, or NULL; `*interrupted` is the first
 * exception, or NULL. */
PyObject *pl_python_completed(PyObject *function, PyObject *arguments, PyObject **interrupted) {
    PyObject *first = NULL, *result = NULL;
    int deeper = 0;
    for (int tries = 0; tries < TRIES && result == NULL; tries++) {
        result = PyObject_CallObject(function, arguments);
        if (result != NULL) {
            break;
        }
        PyObject *value = pl_python_take_exception();
        int ends = is_final(value);
        if (!ends && !deeper && PyErr_GivenExceptionMatches(value, PyExc_RecursionError)) {
            deeper = MARGIN;
            Py_SetRecursionLimit(Py_GetRecursionLimit() + deeper);
        }
        if (first == NULL) {
            first = value;
        } else {
            Py_DECREF(value);
        }
        if (ends) {
            break;
        }
    }
    if (deeper) {
        Py_SetRecursionLimit(Py_GetRecursionLimit() - deeper);
    }
    *interrupted = first;
    return result;
}

static PyObject *complete(PyObject *function, PyObject *arguments) {
    PyObject *first;
    PyObject *result = pl_python_completed(function, arguments, &first);
    if (first != NULL) {
        Py_XDECREF(result);
        pl_python_give_exception(first);
        return NULL;
    }
    return result;
}

static PyObject *completed_function(PyObject *module, PyObject *arguments) {
    (void)module;
    if (PyTuple_Size(arguments) < 1) {
        PyErr_SetString(PyExc_TypeError, "completed needs a function");
        return NULL;
    }
    PyObject *rest = PyTuple_GetSlice(arguments, 1, PyTuple_Size(arguments));
    PyObject *result = rest != NULL ? complete(PyTuple_GetItem(arguments, 0), rest) : NULL;
    Py_XDECREF(rest);
    return result;
}

static PyObject *set_final(PyObject *module, PyObject *classes) {
    (void)module;
    Py_INCREF(classes);
    Py_XDECREF(final_classes);
    final_classes = classes;
    Py_RETURN_NONE;
}

static int leave(PyObject *self, PyObject *value) {
    PyObject *method = PyObject_GetAttrString(self, "leave");
    PyObject *arguments = method != NULL ? PyTuple_Pack(1, value) : NULL;
    PyObject *result = arguments != NULL ? complete(method, arguments) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(arguments);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static PyObject *scope_enter(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *result = PyObject_CallMethod(self, "enter", NULL);
    if (result == NULL) {
        PyObject *value = pl_python_take_exception();
        if (leave(self, value) == 0) {
            pl_python_give_exception(value);
        } else { /* as in Python: the newer exception, in the context of the older */
            PyObject *newer = pl_python_take_exception();
            if (newer != value) {
                PyException_SetContext(newer, value);
            } else {
                Py_DECREF(value);
            }
            pl_python_give_exception(newer);
        }
    }
    return result;
}

static PyObject *scope_exit(PyObject *self, PyObject *arguments) {
    PyObject *kind, *value, *traceback;
    if (!PyArg_ParseTuple(arguments, "OOO", &kind, &value, &traceback) || leave(self, value) != 0) {
        return NULL;
    }
    Py_RETURN_FALSE;
}

static int text_ends(PyObject *object, const char *attribute, const char *end) {
    PyObject *text = PyObject_GetAttrString(object, attribute);
    PyObject *result = text != NULL ? PyObject_CallMethod(text, "endswith", "s", end) : NULL;
    int is = result == Py_True;
    Py_XDECREF(text);
    Py_XDECREF(result);
    return is;
}

/* Returns whether the running code is a finalizer of Python or the callback of a weak reference,
 * which would lose an exception. */
static int is_in_finalizer(void) {
    PyObject *frame = (PyObject *)PyEval_GetFrame();
    int found = 0;
    Py_XINCREF(frame);
    while (frame != NULL && !found) {
        PyObject *code = PyObject_GetAttrString(frame, "f_code");
        found = code != NULL && (text_ends(code, "co_name", "__del__") ||
                                 text_ends(code, "co_filename", "weakrefset.py") ||
                                 text_ends(code, "co_filename", "weakref.py"));
        PyObject *caller = PyObject_GetAttrString(frame, "f_back");
        Py_XDECREF(code);
        Py_DECREF(frame);
        frame = caller == Py_None ? NULL : caller;
        if (caller == Py_None) {
            Py_DECREF(caller);
        }
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return found;
}

/* A pending call: raises in the main thread. */
static int raise_later(void *exception) {
    if (is_in_finalizer() && Py_AddPendingCall(raise_later, exception) == 0) {
        return 0; /* at the next check of the interpreter */
    }
    pl_python_give_exception(exception);
    return -1;
}

static void finalize(PyObject *self) {
    PyObject *kind, *value, *traceback, *first = NULL, *result = NULL;
    PyErr_Fetch(&kind, &value, &traceback); /* the exception of the code that dropped the object */
    PyObject *method = PyObject_GetAttrString(self, "_drop");
    PyObject *arguments = method != NULL ? PyTuple_New(0) : NULL;
    if (arguments != NULL) {
        result = pl_python_completed(method, arguments, &first);
    }
    if (first != NULL && result != NULL &&
        (PyErr_GivenExceptionMatches(first, PyExc_RecursionError) ||
         PyErr_GivenExceptionMatches(first, PyExc_MemoryError))) {
        Py_DECREF(first); /* it was executed nevertheless */
    } else if (first != NULL && (result == NULL || Py_AddPendingCall(raise_later, first) != 0)) {
        pl_python_give_exception(first);
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(method);
    }
    Py_XDECREF(method);
    Py_XDECREF(arguments);
    Py_XDECREF(result);
    PyErr_Restore(kind, value, traceback);
}

static PyType_Slot finalized_slots[] = {
    {Py_tp_doc, "Calls _drop() when it is deallocated: see csrc/python/scope.h."},
    {Py_tp_finalize, finalize},
    {0, NULL},
};

static PyType_Spec finalized_spec = {
    .name = "pylinker.native.scopes.Finalized",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = finalized_slots,
};

static PyMethodDef scope_methods[] = {
    {"__enter__", scope_enter, METH_NOARGS, "Return what enter() returns."},
    {"__exit__", scope_exit, METH_VARARGS, "Call leave() until it returns."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, "A context manager that no exception keeps from leaving: see csrc/python/scope.h."},
    {Py_tp_methods, scope_methods},
    {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "pylinker.native.scopes.Scope",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = scope_slots,
};

static PyMethodDef functions[] = {
    {"completed", completed_function, METH_VARARGS,
     "Call a function until it returns; raise the first exception then."},
    {"set_final", set_final, METH_O,
     "Set the exceptions that are not retried: a class or a tuple of classes."},
    {NULL, NULL, 0, NULL},
};

PyObject *pl_python_refuse(PyObject *type, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(type, format, arguments);
    va_end(arguments);
    return NULL;
}

static int put(PyObject *dictionary, const char *name, PyObject *value) {
    int result = value != NULL ? PyDict_SetItemString(dictionary, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

PyTypeObject *pl_python_add_type(PyObject *dictionary, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL || PyDict_SetItemString(dictionary, strrchr(spec->name, '.') + 1, type) != 0) {
        Py_XDECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type; /* for good */
}

int pl_python_add_scopes(PyObject *dictionary) {
    int result = pl_python_add_type(dictionary, &scope_spec) != NULL &&
                         pl_python_add_type(dictionary, &finalized_spec) != NULL
                     ? 0
                     : -1;
    for (PyMethodDef *each = functions; each->ml_name != NULL && result == 0; each++) {
        result = put(dictionary, each->ml_name, PyCFunction_NewEx(each, NULL, NULL));
    }
    return result;
}

int pl_python_install(uintptr_t address) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *dictionary = (PyObject *)address;
    pl_python.internal_error = PyDict_GetItemString(dictionary, "InternalError");
    Py_XINCREF(pl_python.internal_error);
    int result = pl_python.internal_error != NULL ? pl_python_add_scopes(dictionary) : -1;
    result = result == 0 ? pl_python_add_shared(dictionary) : result;
    result = result == 0 ? pl_python_add_guards(dictionary) : result;
    result = result == 0 ? pl_python_add_groups(dictionary) : result;
    if (result != 0) {
        PyErr_Clear();
    }
    PyGILState_Release(state);
    return result;
}
