/* Discipline: the pointer of a group is written under the write lock of its universe; the rest
 * belongs to the thread of the group. */
#include "objects.h"

#include "backoff.h"
#include "rendezvous.h"

/* Groups. */

static GroupObject *group_of(PyObject *object) { return (GroupObject *)object; }

PyObject *pl_python_refuse_left(void) {
    return pl_python_refuse(pl_python.internal_error,
                            "a group without receivers takes part: it has left the linker");
}

pl_group *pl_python_group_of(PyObject *object) {
    pl_group *group = PyObject_TypeCheck(object, pl_python.group) ? group_of(object)->group : NULL;
    if (group == NULL) {
        pl_python_refuse_left();
    }
    return group;
}

static PyObject *group_place(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromVoidPtr(&group_of(object)->group);
}

static PyObject *group_address(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromVoidPtr(group_of(object)->group);
}

/* The safepoint: usually there is nothing to do; otherwise follows, and Python raises the error. */
static PyObject *poll(PyObject *object) {
    pl_group *group = pl_python_group_of(object);
    if (group == NULL) {
        return NULL;
    }
    /* within a replay: guest code is part of the operation */
    if (pl_group_is_replaying(group)) {
        Py_RETURN_NONE;
    }
    if (!pl_group_is_behind(group) &&
        pl_cancel_cause(pl_shared_cancel(pl_group_shared(group))) == 0) {
        Py_RETURN_NONE;
    }
    return PyObject_CallMethod(object, "follow", NULL);
}

static PyObject *group_safepoint(PyObject *object, PyObject *unused) {
    (void)unused;
    return poll(object);
}

static PyObject *group_follow(PyObject *object, PyObject *unused) {
    (void)unused;
    pl_group *group = pl_python_group_of(object);
    if (group == NULL) {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS;
    result = pl_follow(group);
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(result);
}

/* The context manager of a block in which a group has another state. */

typedef struct {
    PyObject_HEAD PyObject *group;
    int state;  /* enum pl_state, within the block */
    int before; /* the previous state, or -1 outside the block */
} BlockObject;

static PyObject *new_block(PyObject *group, int state) {
    BlockObject *self = (BlockObject *)PyType_GenericAlloc(pl_python.block, 0);
    if (self != NULL) {
        Py_INCREF(group);
        self->group = group;
        self->state = state;
        self->before = -1;
    }
    return (PyObject *)self;
}

static PyObject *group_running(PyObject *object, PyObject *unused) {
    (void)unused;
    return new_block(object, PL_RUNNING);
}

static PyObject *group_parked(PyObject *object, PyObject *unused) {
    (void)unused;
    return new_block(object, PL_PARKED);
}

static int block_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((BlockObject *)object)->group);
    return 0;
}

static int block_clear(PyObject *object) {
    Py_CLEAR(((BlockObject *)object)->group);
    return 0;
}

static void block_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    block_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static void restore(BlockObject *self) {
    pl_group *group = self->group != NULL ? group_of(self->group)->group : NULL;
    if (group != NULL && self->before >= 0) {
        pl_safepoint_restore(pl_group_safepoint(group), self->before);
    }
    self->before = -1;
}

static PyObject *block_enter(PyObject *object, PyObject *unused) {
    (void)unused;
    BlockObject *self = (BlockObject *)object;
    pl_group *group = self->group != NULL ? group_of(self->group)->group : NULL;
    if (group == NULL) {
        return pl_python_refuse_left();
    }
    if (self->before >= 0) {
        return pl_python_refuse(PyExc_RuntimeError, "a block of a group is entered once at a time");
    }
    pl_safepoint *safepoint = pl_group_safepoint(group);
    self->before =
        self->state == PL_RUNNING ? pl_safepoint_run(safepoint) : pl_safepoint_park(safepoint);
    PyObject *result;
    if (self->before == PL_DEAD) {
        result = pl_python_refuse(pl_python.internal_error, "a group that is dead runs nothing");
    } else if (self->state != PL_RUNNING) {
        result = Py_None;
        Py_INCREF(result);
    } else {
        result = poll(self->group);
    }
    if (result == NULL) {
        restore(self);
        return NULL;
    }
    Py_DECREF(result);
    Py_INCREF(self->group);
    return self->group;
}

static PyObject *block_exit(PyObject *object, PyObject *arguments) {
    BlockObject *self = (BlockObject *)object;
    PyObject *kind = PyTuple_GetItem(arguments, 0);
    int runs = self->before == PL_RUNNING && self->state == PL_PARKED;
    restore(self);
    if (kind == NULL) {
        return NULL;
    }
    if (runs) { /* the outer state is RUNNING: the group must replay first */
        PyObject *result = poll(self->group);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
    }
    Py_RETURN_FALSE;
}

static PyMethodDef block_methods[] = {
    {"__enter__", block_enter, METH_NOARGS,
     "Put the group into the state of the block; return it."},
    {"__exit__", block_exit, METH_VARARGS, "Restore the previous state."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_doc, "A block in which a group is RUNNING or PARKED."},
    {Py_tp_dealloc, block_dealloc},
    {Py_tp_traverse, block_traverse},
    {Py_tp_clear, block_clear},
    {Py_tp_methods, block_methods},
    {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "pylinker.native.sync.StateBlock",
    .basicsize = sizeof(BlockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = block_slots,
};

static PyMethodDef group_methods[] = {
    {"follow_pending", group_follow, METH_NOARGS,
     "Follow pending operations; return an enum pl_acquire. Blocks, without the GIL."},
    {"safepoint", group_safepoint, METH_NOARGS,
     "Replay published operations, if there are any. Blocks then."},
    {"running", group_running, METH_NOARGS,
     "Return a context manager in which the group is RUNNING."},
    {"parked", group_parked, METH_NOARGS, "Return a context manager in which the group is PARKED."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef group_getset[] = {
    {"place", group_place, NULL,
     "The address of the pointer to its pl_group, for pl_group_new_at and pl_group_free_at.", NULL},
    {"address", group_address, NULL, "The address of its pl_group, 0 if there is none.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot group_slots[] = {
    {Py_tp_doc, "A group's part in the rendezvous: see csrc/python/objects.h."},
    {Py_tp_methods, group_methods},
    {Py_tp_getset, group_getset},
    {0, NULL},
};

static PyType_Spec group_spec = {
    .name = "pylinker.native.sync.GroupBase",
    .basicsize = sizeof(GroupObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = group_slots,
};

/* Backing off. */

typedef struct {
    PyObject_HEAD pl_backoff backoff;
} BackoffObject;

static pl_backoff *backoff_of(PyObject *object) { return &((BackoffObject *)object)->backoff; }

static PyObject *backoff_pause(PyObject *object, PyObject *unused) {
    (void)unused;
    pl_backoff *backoff = backoff_of(object);
    if (pl_backoff_kind(backoff->pauses) > 0) {
        Py_BEGIN_ALLOW_THREADS;
        pl_backoff_pause(backoff);
        Py_END_ALLOW_THREADS;
    } else { /* a microsecond or less: taking the GIL again takes 5,000 beside a busy thread */
        pl_backoff_pause(backoff);
    }
    Py_RETURN_NONE;
}

static PyObject *backoff_reset(PyObject *object, PyObject *unused) {
    (void)unused;
    backoff_of(object)->pauses = 0;
    Py_RETURN_NONE;
}

static PyObject *backoff_pauses(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLong(backoff_of(object)->pauses);
}

static PyObject *backoff_next(PyObject *object, void *closure) {
    (void)closure;
    int64_t kind = pl_backoff_kind(backoff_of(object)->pauses);
    if (kind == 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(kind > 0 ? (double)kind / 1e9 : 0.0);
}

static PyObject *backoff_repr(PyObject *object) {
    return PyUnicode_FromFormat("<LinkerStateWriteBackoff after %lu pauses>",
                                (unsigned long)backoff_of(object)->pauses);
}

static PyMethodDef backoff_methods[] = {
    {"pause", backoff_pause, METH_NOARGS,
     "Take the next pause. Blocks for at most 10 milliseconds; it sleeps without the GIL."},
    {"reset", backoff_reset, METH_NOARGS, "Start over with spins, after the lock was acquired."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef backoff_getset[] = {
    {"pauses", backoff_pauses, NULL, "The number of pauses so far.", NULL},
    {"next_sleep", backoff_next, NULL,
     "The seconds that the next pause sleeps; 0.0 for a yield, None for a spin.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot backoff_slots[] = {
    {Py_tp_doc, "A sequence of pauses: 64 spins, 24 yields, then sleeps from 48 microseconds "
                "doubling up to 10 milliseconds."},
    {Py_tp_repr, backoff_repr},
    {Py_tp_methods, backoff_methods},
    {Py_tp_getset, backoff_getset},
    {0, NULL},
};

static PyType_Spec backoff_spec = {
    .name = "pylinker.sync.LinkerStateWriteBackoff",
    .basicsize = sizeof(BackoffObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = backoff_slots,
};

int pl_python_add_groups(PyObject *dictionary) {
    pl_python.group = pl_python_add_type(dictionary, &group_spec);
    pl_python.block = pl_python.group != NULL ? pl_python_add_type(dictionary, &block_spec) : NULL;
    pl_python.backoff =
        pl_python.block != NULL ? pl_python_add_type(dictionary, &backoff_spec) : NULL;
    return pl_python.backoff != NULL ? 0 : -1;
}
