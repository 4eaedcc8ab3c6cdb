/* Discipline: the lock of a guard or token is in its pl_hold, whose state is atomic; the rest is
 * written at creation. */
#include "objects.h"

#include <stdarg.h>

GuardObject *pl_python_new_guard(PyTypeObject *type, SharedObject *universe, PyObject *state,
                                 PyObject *topology) {
    GuardObject *self = (GuardObject *)PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)universe);
        Py_INCREF(state);
        Py_INCREF(topology);
        self->universe = universe;
        self->state = state;
        self->topology = topology;
        pl_hold_init(&self->hold, universe->shared,
                     topology != Py_None ? &((TokenObject *)topology)->hold : NULL);
    }
    return self;
}

TokenObject *pl_python_new_token(SharedObject *universe) {
    TokenObject *self = (TokenObject *)PyType_GenericAlloc(pl_python.token, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)universe);
        self->universe = universe;
        pl_hold_init(&self->hold, universe->shared, NULL);
    }
    return self;
}

/* Warns of an object that is dropped while it holds a lock; not while an exception is propagating:
 * most likely that of a signal handler, raised between the call that returned the object and the
 * next step of the caller. */
static void warn(const char *text) {
    if (PyErr_Occurred()) {
        return;
    }
    if (PyErr_ResourceWarning(NULL, 1, "a %s was dropped before it was released", text) != 0) {
        PyErr_WriteUnraisable(NULL);
    }
}

static PyObject *generic(PyObject *type, PyObject *item) { return Py_GenericAlias(type, item); }

/* Waits without the GIL: `take` is one of pl_hold_*_as. */
static PyObject *take_as(pl_hold *hold, int (*take)(pl_hold *, pl_group *), PyObject *argument) {
    pl_group *group = pl_python_group_of(argument);
    if (group == NULL) {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS;
    result = take(hold, group);
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(result);
}

/* Tokens. */

static TokenObject *token_of(PyObject *object) { return (TokenObject *)object; }

static int token_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)token_of(object)->universe);
    return 0;
}

static void token_dealloc(PyObject *object) {
    TokenObject *self = token_of(object);
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->universe != NULL) {
        if (pl_hold_release(&self->hold) && self->is_given) {
            warn("TopologyToken");
        }
        Py_DECREF((PyObject *)self->universe);
    }
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static int token_is_held(PyObject *object) {
    return pl_hold_kind(&token_of(object)->hold) == PL_HOLDS_TOKEN;
}

static PyObject *token_release(PyObject *object, PyObject *unused) {
    (void)unused;
    pl_hold *hold = &token_of(object)->hold;
    unsigned long long number = pl_hold_token(hold);
    if (pl_hold_locks(hold) != 0) {
        return pl_python_refuse(
            pl_python.internal_error,
            "topology token %llu is released before the guard that was taken under it", number);
    }
    if (!pl_hold_release(hold)) {
        return pl_python_refuse(pl_python.internal_error, "topology token %llu is released twice",
                                number);
    }
    Py_RETURN_NONE;
}

static PyObject *token_leave(PyObject *object, PyObject *unused) {
    if (token_is_held(object)) {
        return token_release(object, unused);
    }
    Py_RETURN_NONE;
}

static PyObject *token_enter(PyObject *object, PyObject *unused) {
    (void)unused;
    Py_INCREF(object);
    return object;
}

static PyObject *token_exit(PyObject *object, PyObject *unused) {
    return token_leave(object, unused);
}

static PyObject *token_take(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(pl_hold_acquire(&token_of(object)->hold));
}

static PyObject *token_take_as(PyObject *object, PyObject *group) {
    return take_as(&token_of(object)->hold, pl_hold_acquire_as, group);
}

static PyObject *token_belongs_to(PyObject *object, PyObject *universe) {
    return PyBool_FromLong((PyObject *)token_of(object)->universe == universe &&
                           token_is_held(object));
}

static PyObject *token_reduce(PyObject *object, PyObject *unused) {
    (void)object, (void)unused;
    return pl_python_refuse(
        PyExc_TypeError, "a TopologyToken is neither copied nor pickled: there is one at a time");
}

static PyObject *token_repr(PyObject *object) {
    return PyUnicode_FromFormat("<TopologyToken %llu%s>",
                                (unsigned long long)pl_hold_token(&token_of(object)->hold),
                                token_is_held(object) ? "" : " (released)");
}

static PyObject *token_number(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(pl_hold_token(&token_of(object)->hold));
}

static PyObject *token_held(PyObject *object, void *closure) {
    (void)closure;
    return PyBool_FromLong(token_is_held(object));
}

static PyObject *token_guards(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLong(pl_hold_locks(&token_of(object)->hold));
}

static PyMethodDef token_methods[] = {
    {"release", token_release, METH_NOARGS,
     "Release the token. InternalError the second time, or before the guard taken under it."},
    {"leave", token_leave, METH_O, "Release it unless it is released."},
    {"take", token_take, METH_NOARGS, "Try to take it: ACQUIRED or BUSY. Never blocks."},
    {"take_as", token_take_as, METH_O,
     "Take it and follow meanwhile; return an enum pl_acquire. Blocks, without the GIL."},
    {"belongs_to", token_belongs_to, METH_O, "Whether this is a held token of that universe."},
    {"__enter__", token_enter, METH_NOARGS, "Return the token."},
    {"__exit__", token_exit, METH_VARARGS, "Release it unless it is released."},
    {"__reduce__", token_reduce, METH_NOARGS, "Raise TypeError: it cannot be pickled."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef token_getset[] = {
    {"number", token_number, NULL, "Its number, which is never reused; 0 before it is taken.",
     NULL},
    {"is_held", token_held, NULL, "Whether the token is held.", NULL},
    {"guards", token_guards, NULL, "The number of held guards that were taken under it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef token_members[] = {
    {"is_given", T_BOOL, offsetof(TokenObject, is_given), 0,
     "Whether dropping it while it is held is a ResourceWarning."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot token_slots[] = {
    {Py_tp_doc, "The right to change the topology; there is at most one at a time. It is released "
                "once, after the guards taken under it."},
    {Py_tp_dealloc, token_dealloc},
    {Py_tp_traverse, token_traverse},
    {Py_tp_repr, token_repr},
    {Py_tp_methods, token_methods},
    {Py_tp_getset, token_getset},
    {Py_tp_members, token_members},
    {0, NULL},
};

static PyType_Spec token_spec = {
    .name = "pylinker.sync.TopologyToken",
    .basicsize = sizeof(TokenObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = token_slots,
};

/* Guards. */

static GuardObject *guard_of(PyObject *object) { return (GuardObject *)object; }

static int guard_traverse(PyObject *object, visitproc visit, void *arg) {
    GuardObject *self = guard_of(object);
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->universe);
    Py_VISIT(self->state);
    Py_VISIT(self->topology);
    return 0;
}

/* keeps the universe and the token, whose lock it holds */
static int guard_clear(PyObject *object) {
    Py_CLEAR(guard_of(object)->state);
    return 0;
}

static void guard_dealloc(PyObject *object) {
    GuardObject *self = guard_of(object);
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->universe != NULL) {
        if (pl_hold_release(&self->hold) && self->is_given) {
            warn(type == pl_python.writer ? "WriteGuard" : "ReadGuard");
        }
        Py_DECREF((PyObject *)self->universe);
    }
    Py_XDECREF(self->state);
    Py_XDECREF(self->topology);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static int guard_is_held(PyObject *object) {
    int kind = Py_TYPE(object) == pl_python.writer ? PL_HOLDS_WRITE : PL_HOLDS_READ;
    return pl_hold_kind(&guard_of(object)->hold) == kind;
}

static PyObject *refuse_released(void) {
    return pl_python_refuse(pl_python.internal_error,
                            "a guard of the linker's state is used after it was released");
}

static PyObject *guard_release(PyObject *object, PyObject *unused) {
    (void)unused;
    if (!guard_is_held(object) || !pl_hold_release(&guard_of(object)->hold)) {
        return refuse_released();
    }
    Py_RETURN_NONE;
}

static PyObject *guard_leave(PyObject *object, PyObject *error) {
    pl_hold *hold = &guard_of(object)->hold;
    if (Py_TYPE(object) == pl_python.writer && error != Py_None &&
        PyErr_GivenExceptionMatches(error, pl_python.internal_error)) {
        pl_hold_poison(hold);
    }
    pl_hold_release(hold);
    Py_RETURN_NONE;
}

static PyObject *guard_enter(PyObject *object, PyObject *unused) {
    (void)unused;
    if (!guard_is_held(object)) {
        return refuse_released();
    }
    Py_INCREF(object);
    return object;
}

static PyObject *guard_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    return guard_leave(object, count > 1 ? arguments[1] : Py_None);
}

static PyObject *guard_guards(PyObject *object, PyObject *universe) {
    return PyBool_FromLong((PyObject *)guard_of(object)->universe == universe &&
                           guard_is_held(object));
}

static PyObject *guard_reduce(PyObject *object, PyObject *unused) {
    (void)object, (void)unused;
    return pl_python_refuse(
        PyExc_TypeError, "a guard is neither copied nor pickled: it is a lock that is held once");
}

static PyObject *reader_take(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(pl_hold_read(&guard_of(object)->hold));
}

static PyObject *reader_take_as(PyObject *object, PyObject *group) {
    return take_as(&guard_of(object)->hold, pl_hold_read_as, group);
}

static PyObject *reader_take_now(PyObject *object, PyObject *argument) {
    pl_group *group = pl_python_group_of(argument);
    if (group == NULL) {
        return NULL;
    }
    return PyBool_FromLong(pl_hold_read_now(&guard_of(object)->hold, group) == PL_ACQUIRED);
}

static PyObject *writer_take(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(pl_hold_write(&guard_of(object)->hold));
}

static PyObject *writer_take_as(PyObject *object, PyObject *group) {
    return take_as(&guard_of(object)->hold, pl_hold_write_as, group);
}

static PyObject *writer_take_blindly(PyObject *object, PyObject *unused) {
    (void)unused;
    pl_hold *hold = &guard_of(object)->hold;
    int result;
    Py_BEGIN_ALLOW_THREADS;
    result = pl_hold_write_wait(hold, PL_SLICE);
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(result);
}

/* Takes token and lock at once, for a group that has nothing to replay. */
static PyObject *writer_take_both(PyObject *object, PyObject *argument) {
    GuardObject *self = guard_of(object);
    pl_group *group = pl_python_group_of(argument);
    if (group == NULL) {
        return NULL;
    }
    if (self->topology == Py_None) {
        return pl_python_refuse(pl_python.internal_error, "a guard without a token takes no token");
    }
    return PyBool_FromLong(pl_hold_exclusive(&token_of(self->topology)->hold, &self->hold, group) ==
                           PL_ACQUIRED);
}

static PyObject *guard_held(PyObject *object, void *closure) {
    (void)closure;
    return PyBool_FromLong(guard_is_held(object));
}

static PyObject *guard_state(PyObject *object, void *closure) {
    (void)closure;
    PyObject *state = guard_of(object)->state;
    if (state == NULL || !guard_is_held(object)) {
        return refuse_released();
    }
    Py_INCREF(state);
    return state;
}

static PyGetSetDef guard_getset[] = {
    {"held", guard_held, NULL, "Whether the lock is held by this guard.", NULL},
    {"state", guard_state, NULL, "The protected state. InternalError once the guard is released.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef guard_members[] = {
    {"topology", T_OBJECT, offsetof(GuardObject, topology), READONLY,
     "The token that it was taken under, or None."},
    {"is_given", T_BOOL, offsetof(GuardObject, is_given), 0,
     "Whether dropping it while it is held is a ResourceWarning."},
    {NULL, 0, 0, 0, NULL},
};

#define GUARD_METHODS                                                                              \
    {"release", guard_release, METH_NOARGS, "Release the lock; InternalError the second time."},   \
        {"leave", guard_leave, METH_O,                                                             \
         "Give the lock back, if that was not done; a write lock for good after an "               \
         "InternalError."},                                                                        \
        {"guards", guard_guards, METH_O, "Whether this is a held guard of that universe."},        \
        {"__enter__", guard_enter, METH_NOARGS, "Return the guard, which holds the lock."},        \
        {"__exit__", (PyCFunction)(void (*)(void))guard_exit, METH_FASTCALL,                       \
         "Release the lock unless it is released."},                                               \
        {"__reduce__", guard_reduce, METH_NOARGS, "Raise TypeError: it cannot be pickled."},       \
        {"__class_getitem__", generic, METH_O | METH_CLASS,                                        \
         "The type of a guard of a certain state."}

static PyMethodDef reader_methods[] = {
    GUARD_METHODS,
    {"take", reader_take, METH_NOARGS,
     "Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."},
    {"take_now", reader_take_now, METH_O,
     "Try to take it for a group that has nothing to replay. Never blocks."},
    {"take_as", reader_take_as, METH_O,
     "Take it and follow meanwhile; return an enum pl_acquire. Blocks, without the GIL."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef writer_methods[] = {
    GUARD_METHODS,
    {"take", writer_take, METH_NOARGS,
     "Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."},
    {"take_as", writer_take_as, METH_O,
     "Take it and follow meanwhile; return an enum pl_acquire. Blocks, without the GIL."},
    {"take_blindly", writer_take_blindly, METH_NOARGS,
     "Wait for it without following, for a slice of time; return an enum pl_acquire. Blocks, "
     "without the GIL."},
    {"take_both", writer_take_both, METH_O,
     "Try to take its token, too, for a group with nothing to replay. Never blocks."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "The LinkerState may be read. A context manager; another thread may release it."},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_traverse, guard_traverse},
    {Py_tp_clear, guard_clear},
    {Py_tp_methods, reader_methods},
    {Py_tp_getset, guard_getset},
    {Py_tp_members, guard_members},
    {0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "The LinkerState may be changed. A context manager: leaving it with an "
                "InternalError poisons the lock."},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_traverse, guard_traverse},
    {Py_tp_clear, guard_clear},
    {Py_tp_methods, writer_methods},
    {Py_tp_getset, guard_getset},
    {Py_tp_members, guard_members},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "pylinker.sync.ReadGuard",
    .basicsize = sizeof(GuardObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

static PyType_Spec writer_spec = {
    .name = "pylinker.sync.WriteGuard",
    .basicsize = sizeof(GuardObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = writer_slots,
};

/* Constructors of objects that hold nothing. */

static PyObject *new_token(PyObject *module, PyObject *universe) {
    (void)module;
    if (!PyObject_TypeCheck(universe, pl_python.shared)) {
        return pl_python_refuse(PyExc_TypeError, "%R is no universe", universe);
    }
    return (PyObject *)pl_python_new_token((SharedObject *)universe);
}

static PyObject *new_guard(PyTypeObject *type, PyObject *arguments) {
    PyObject *universe, *state, *topology;
    if (!PyArg_ParseTuple(arguments, "O!OO", pl_python.shared, &universe, &state, &topology)) {
        return NULL;
    }
    if (topology != Py_None && !PyObject_TypeCheck(topology, pl_python.token)) {
        return pl_python_refuse(PyExc_TypeError, "%R is no token", topology);
    }
    return (PyObject *)pl_python_new_guard(type, (SharedObject *)universe, state, topology);
}

static PyObject *new_reader(PyObject *module, PyObject *arguments) {
    (void)module;
    return new_guard(pl_python.reader, arguments);
}

static PyObject *new_writer(PyObject *module, PyObject *arguments) {
    (void)module;
    return new_guard(pl_python.writer, arguments);
}

static PyMethodDef functions[] = {
    {"new_token", new_token, METH_O, "Return a token of a universe that is not taken yet."},
    {"new_reader", new_reader, METH_VARARGS,
     "Return a guard for reading that holds nothing yet: of a universe, a state and a token or "
     "None."},
    {"new_writer", new_writer, METH_VARARGS, "Return a guard for writing."},
    {NULL, NULL, 0, NULL},
};

int pl_python_add_guards(PyObject *dictionary) {
    pl_python.token = pl_python_add_type(dictionary, &token_spec);
    pl_python.reader =
        pl_python.token != NULL ? pl_python_add_type(dictionary, &reader_spec) : NULL;
    pl_python.writer =
        pl_python.reader != NULL ? pl_python_add_type(dictionary, &writer_spec) : NULL;
    int result = pl_python.writer != NULL ? 0 : -1;
    for (PyMethodDef *each = functions; each->ml_name != NULL && result == 0; each++) {
        PyObject *function = PyCFunction_NewEx(each, NULL, NULL);
        result = function != NULL ? PyDict_SetItemString(dictionary, each->ml_name, function) : -1;
        Py_XDECREF(function);
    }
    return result;
}
