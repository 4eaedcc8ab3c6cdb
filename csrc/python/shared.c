/* Discipline: protected by the GIL, or on a build without it by the atomics of each object. The log
 * is changed only by a thread with the write lock; the collector may read its owners at any moment
 * (log.h). */
#include "objects.h"

#include "lead.h"
#include "rendezvous.h"

/* A universe. */

static void release_owner(void *owner) { Py_DECREF((PyObject *)owner); }

static PyObject *shared_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)arguments, (void)keywords;
    SharedObject *self = (SharedObject *)PyType_GenericAlloc(type, 0);
    if (self != NULL && (self->shared = pl_shared_new()) == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (self != NULL) {
        pl_shared_log(self->shared)->release = release_owner;
    }
    return (PyObject *)self;
}

static int shared_traverse(PyObject *object, visitproc visit, void *arg) {
    SharedObject *self = (SharedObject *)object;
    Py_VISIT(Py_TYPE(object));
    if (self->shared != NULL) {
        const pl_log *log = pl_shared_log(self->shared);
        size_t count = pl_log_count(log);
        for (size_t i = 0; i < count; i++) {
            Py_VISIT((PyObject *)log->entries[log->start + i].owner);
        }
    }
    return 0;
}

static int shared_clear(PyObject *object) {
    SharedObject *self = (SharedObject *)object;
    if (self->shared != NULL) { /* its groups are garbage, too, so no thread replays */
        pl_log *log = pl_shared_log(self->shared);
        pl_log_forget(log, pl_log_last(log));
    }
    return 0;
}

static void shared_dealloc(PyObject *object) {
    SharedObject *self = (SharedObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->shared != NULL) {
        shared_clear(object);
        pl_shared_log(self->shared)->release =
            NULL; /* owners of the pl_shared that outlive this object do not call Python */
        pl_shared_free(self->shared);
    }
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *shared_address(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromVoidPtr(((SharedObject *)object)->shared);
}

static PyObject *shared_forget(PyObject *object, PyObject *unused) {
    (void)unused;
    SharedObject *self = (SharedObject *)object;
    pl_log_forget(pl_shared_log(self->shared), pl_shared_applied_by_all(self->shared));
    Py_RETURN_NONE;
}

static PyObject *shared_erase(PyObject *object, PyObject *numbers) {
    pl_log *log = pl_shared_log(((SharedObject *)object)->shared);
    PyObject *list = PySequence_List(numbers);
    Py_ssize_t count = list != NULL ? PyList_Size(list) : 0;
    /* all or none: no Python code runs before the last is read */
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyLong_AsUnsignedLongLong(PyList_GetItem(list, i)) == (unsigned long long)-1 &&
            PyErr_Occurred()) {
            Py_CLEAR(list);
        }
    }
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        pl_log_erase(log, PyLong_AsUnsignedLongLong(PyList_GetItem(list, i)));
    }
    Py_DECREF(list);
    Py_RETURN_NONE;
}

static PyObject *shared_operation(PyObject *object, PyObject *argument) {
    const pl_log *log = pl_shared_log(((SharedObject *)object)->shared);
    long long number = PyLong_AsLongLong(argument);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (number < 1 || (uint64_t)number < log->first || (uint64_t)number > pl_log_last(log)) {
        return pl_python_refuse(
            pl_python.internal_error, "operation %lld is not in the log, which has %llu to %llu",
            number, (unsigned long long)log->first, (unsigned long long)pl_log_last(log));
    }
    const pl_log_entry *entry = pl_log_at(log, (uint64_t)number);
    PyObject *owner = entry != NULL && entry->owner != NULL ? entry->owner : Py_None;
    Py_INCREF(owner);
    return owner;
}

static PyObject *shared_operations(PyObject *object, void *closure) {
    (void)closure;
    const pl_log *log = pl_shared_log(((SharedObject *)object)->shared);
    PyObject *operations = PyDict_New();
    size_t count = pl_log_count(log);
    for (size_t i = 0; i < count && operations != NULL; i++) {
        const pl_log_entry *entry = log->entries + log->start + i;
        PyObject *number = PyLong_FromUnsignedLongLong(entry->number);
        if (number == NULL ||
            (entry->owner != NULL && PyDict_SetItem(operations, number, entry->owner) != 0)) {
            Py_CLEAR(operations);
        }
        Py_XDECREF(number);
    }
    return operations;
}

static PyObject *shared_operation_count(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromSize_t(pl_log_count(pl_shared_log(((SharedObject *)object)->shared)));
}

static PyMethodDef shared_methods[] = {
    {"forget_replayed", shared_forget, METH_NOARGS,
     "Truncate the log up to what every living group has replayed. Under the write lock."},
    {"erase", shared_erase, METH_O,
     "Erase operations without an effect from the log, by their numbers: all or none. Under the "
     "write lock."},
    {"operation", shared_operation, METH_O,
     "Return the operation with a number, or None for a no-op. Under a read lock."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"address", shared_address, NULL, "The address of the pl_shared.", NULL},
    {"operations", shared_operations, NULL,
     "The operations in the log, by number. Under a read lock.", NULL},
    {"operation_count", shared_operation_count, NULL, "The number of operations in the log.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "A universe of csrc/shared.h, and its log."},
    {Py_tp_new, shared_new},
    {Py_tp_dealloc, shared_dealloc},
    {Py_tp_traverse, shared_traverse},
    {Py_tp_clear, shared_clear},
    {Py_tp_methods, shared_methods},
    {Py_tp_getset, shared_getset},
    {0, NULL},
};

static PyType_Spec shared_spec = {
    .name = "pylinker.native.sync.SharedBase",
    .basicsize = sizeof(SharedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = shared_slots,
};

/* A handle of a universe, with the most frequent methods of LinkerShared. */

typedef struct {
    PyObject_HEAD SharedObject *universe;
    PyObject *state;
} HandleObject;

static int handle_traverse(PyObject *object, visitproc visit, void *arg) {
    HandleObject *self = (HandleObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->universe);
    Py_VISIT(self->state);
    return 0;
}

static int handle_clear(PyObject *object) {
    HandleObject *self = (HandleObject *)object;
    PyObject *universe = (PyObject *)self->universe;
    self->universe = NULL;
    Py_XDECREF(universe);
    Py_CLEAR(self->state);
    return 0;
}

static void handle_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    handle_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *handle_bind(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    HandleObject *self = (HandleObject *)object;
    if (count != 2 || !PyObject_TypeCheck(arguments[0], pl_python.shared) ||
        self->universe != NULL) {
        return pl_python_refuse(PyExc_TypeError,
                                "a handle is bound once, to a universe and a state");
    }
    Py_INCREF(arguments[0]);
    Py_INCREF(arguments[1]);
    self->universe = (SharedObject *)arguments[0];
    self->state = arguments[1];
    Py_RETURN_NONE;
}

static SharedObject *universe_of(PyObject *object) {
    SharedObject *universe = ((HandleObject *)object)->universe;
    if (universe == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "this LinkerShared was not initialised: use LinkerShared.new()");
    }
    return universe;
}

static PyObject *handle_pending(PyObject *object, PyObject *ordering) {
    SharedObject *universe = universe_of(object);
    int overflow = 1;
    long order = universe != NULL && PyLong_Check(ordering)
                     ? PyLong_AsLongAndOverflow(ordering, &overflow)
                     : -1;
    if (universe == NULL) {
        return NULL;
    }
    if (overflow || order < PL_RELAXED || order > PL_SEQ_CST) {
        return pl_python_refuse(PyExc_ValueError, "ordering=%R: give one of pylinker.sync.Ordering",
                                ordering);
    }
    return PyBool_FromLong(pl_flag_load(pl_shared_flag(universe->shared), (int)order));
}

/* Raises what a handle's aborted() returns. */
static PyObject *raise_aborted(PyObject *object) {
    PyObject *error = PyObject_CallMethod(object, "aborted", NULL);
    if (error != NULL) {
        pl_python_give_exception(error);
    }
    return NULL;
}

/* Returns the result of an attempt: the guard, owned by the caller, None or an exception. */
static PyObject *given(PyObject *object, GuardObject *guard, int result) {
    if (guard != NULL && result == PL_ACQUIRED) {
        guard->is_given = 1;
        return (PyObject *)guard;
    }
    Py_XDECREF((PyObject *)guard);
    if (guard == NULL) {
        return NULL;
    }
    if (result == PL_POISONED) {
        return raise_aborted(object);
    }
    Py_RETURN_NONE;
}

static GuardObject *new_guard(PyObject *object, PyTypeObject *type) {
    SharedObject *universe = universe_of(object);
    return universe != NULL
               ? pl_python_new_guard(type, universe, ((HandleObject *)object)->state, Py_None)
               : NULL;
}

static PyObject *handle_try_write(PyObject *object, PyObject *unused) {
    (void)unused;
    GuardObject *guard = new_guard(object, pl_python.writer);
    return given(object, guard, guard != NULL ? pl_hold_write(&guard->hold) : PL_BUSY);
}

static PyObject *handle_try_read(PyObject *object, PyObject *unused) {
    (void)unused;
    GuardObject *guard = new_guard(object, pl_python.reader);
    return given(object, guard, guard != NULL ? pl_hold_read(&guard->hold) : PL_BUSY);
}

/* Returns the group of an argument if it belongs to this universe; else NULL without an
 * exception. */
static pl_group *group_in(SharedObject *universe, PyObject *argument) {
    pl_group *group =
        PyObject_TypeCheck(argument, pl_python.group) ? ((GroupObject *)argument)->group : NULL;
    return group != NULL && pl_group_shared(group) == universe->shared ? group : NULL;
}

/* Returns a guard for a group that has nothing to replay; None if the fast path does not apply; or
 * an exception. */
static PyObject *take_now(PyObject *object, PyObject *argument, PyTypeObject *type,
                          int (*take)(pl_hold *, pl_group *)) {
    SharedObject *universe = universe_of(object);
    pl_group *group = universe != NULL ? group_in(universe, argument) : NULL;
    if (universe == NULL) {
        return NULL;
    }
    if (group == NULL) {
        Py_RETURN_NONE;
    }
    GuardObject *guard = new_guard(object, type);
    int result = guard != NULL ? take(&guard->hold, group) : PL_BUSY;
    if (result == PL_ACQUIRED && type == pl_python.writer) {
        pl_log_forget(pl_shared_log(universe->shared), pl_shared_applied_by_all(universe->shared));
    }
    return given(object, guard, result);
}

static PyObject *handle_write_now(PyObject *object, PyObject *group) {
    return take_now(object, group, pl_python.writer, pl_hold_write_now);
}

static PyObject *handle_read_now(PyObject *object, PyObject *group) {
    return take_now(object, group, pl_python.reader, pl_hold_read_now);
}

static PyObject *handle_acquire_now(PyObject *object, PyObject *argument) {
    SharedObject *universe = universe_of(object);
    if (universe != NULL && (group_in(universe, argument) == NULL ||
                             pl_cancel_cause(pl_shared_cancel(universe->shared)) != 0)) {
        Py_RETURN_NONE;
    }
    TokenObject *token = universe != NULL ? pl_python_new_token(universe) : NULL;
    if (token != NULL && pl_hold_acquire(&token->hold) == PL_ACQUIRED) {
        token->is_given = 1;
        return (PyObject *)token;
    }
    if (token == NULL) {
        return NULL;
    }
    Py_DECREF((PyObject *)token);
    Py_RETURN_NONE;
}

static PyObject *handle_native(PyObject *object, void *closure) {
    (void)closure;
    SharedObject *universe = universe_of(object);
    Py_XINCREF((PyObject *)universe);
    return (PyObject *)universe;
}

static PyObject *handle_state(PyObject *object, void *closure) {
    (void)closure;
    PyObject *state = ((HandleObject *)object)->state;
    state = state != NULL ? state : Py_None;
    Py_INCREF(state);
    return state;
}

static PyMethodDef handle_methods[] = {
    {"bind", (PyCFunction)(void (*)(void))handle_bind, METH_FASTCALL,
     "Bind the handle to a universe and its protected state. Once."},
    {"dl_operation_pending_load", handle_pending, METH_O,
     "Load the pending flag with an Ordering. Never blocks."},
    {"try_write_linker_state", handle_try_write, METH_NOARGS,
     "Return a write guard, or None if the lock is held. Never blocks."},
    {"try_read_linker_state", handle_try_read, METH_NOARGS,
     "Return a read guard, or None while the lock is held for writing. Never blocks."},
    {"write_now", handle_write_now, METH_O,
     "Return a write guard for a group, or None if the fast path fails. Never blocks."},
    {"read_now", handle_read_now, METH_O,
     "Return a read guard for a group, or None if the fast path fails. Never blocks."},
    {"acquire_now", handle_acquire_now, METH_O,
     "Return the topology token for a group, or None if the fast path fails. Never blocks."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"_native", handle_native, NULL, "The universe.", NULL},
    {"_linker_state", handle_state, NULL, "The protected state.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "A handle of a universe: see csrc/python/objects.h."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "pylinker.native.sync.SharedHandle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = handle_slots,
};

/* Leading. */

typedef struct {
    PyObject *universe, *wake, *commit, *no_arguments;
    PyObject *failure;     /* the exception of wake or commit */
    PyObject *interrupted; /* an interrupt during the completed call */
} Steps;

/* Stored before the linker is cancelled: other threads read the reason right afterwards. */
static void note_reason(PyObject *universe, PyObject *failure) {
    PyObject *reason = PyObject_GetAttrString(universe, "reason");
    if (reason == Py_None) {
        PyObject_SetAttrString(universe, "reason", failure);
    }
    Py_XDECREF(reason);
    PyErr_Clear();
}

static int failed(Steps *steps, PyObject *failure, int cancels) {
    int broken = PyErr_GivenExceptionMatches(failure, pl_python.internal_error);
    if (broken || cancels) {
        note_reason(steps->universe, failure);
    }
    steps->failure = failure;
    return broken ? PL_BROKEN : PL_FAILED;
}

static int wake_step(pl_leading *leading) {
    Steps *steps = leading->argument;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallObject(steps->wake, steps->no_arguments);
    int done = result != NULL ? PL_DONE : failed(steps, pl_python_take_exception(), 0);
    Py_XDECREF(result);
    PyGILState_Release(state);
    return done;
}

static int commit_step(pl_leading *leading) {
    Steps *steps = leading->argument;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *first = NULL;
    PyObject *result = pl_python_completed(steps->commit, steps->no_arguments, &first);
    int done = PL_DONE;
    if (result != NULL) {
        steps->interrupted = first;
    } else { /* with one group no other thread waits, and nothing is cancelled */
        done = failed(steps, first, !pl_shared_is_alone(((SharedObject *)steps->universe)->shared));
    }
    Py_XDECREF(result);
    PyGILState_Release(state);
    return done;
}

static PyObject *lead(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *group, *token, *guard, *operation, *wake, *commit;
    unsigned long long native;
    long long timeout;
    if (!PyArg_ParseTuple(arguments, "O!O!O!OKOOL", pl_python.group, &group, pl_python.token,
                          &token, pl_python.writer, &guard, &operation, &native, &wake, &commit,
                          &timeout)) {
        return NULL;
    }
    SharedObject *universe = ((TokenObject *)token)->universe;
    pl_group *self = group_in(universe, group);
    /* it has left: Python has checked everything else */
    if (self == NULL && !pl_shared_is_alone(universe->shared)) {
        pl_hold_release(&((GuardObject *)guard)->hold);
        pl_hold_release(&((TokenObject *)token)->hold);
        return pl_python_refuse_left();
    }
    Steps steps = {.universe = (PyObject *)universe,
                   .wake = wake,
                   .commit = commit,
                   .no_arguments = PyTuple_New(0)};
    pl_leading leading = {
        .token = &((TokenObject *)token)->hold,
        .lock = &((GuardObject *)guard)->hold,
        .operation = (const struct pl_operation *)(uintptr_t)native,
        .owner = operation,
        .timeout = timeout,
        .wake = wake != Py_None ? wake_step : NULL,
        .commit = commit != Py_None ? commit_step : NULL,
        .argument = &steps,
    };
    pl_log *log = pl_shared_log(universe->shared);
    pl_log_forget(log, pl_shared_applied_by_all(universe->shared));
    /* with the GIL, which excludes the collector; pl_lead finds it done */
    int has_room = pl_log_reserve(log) == 0;
    int result = PL_BUSY;
    Py_INCREF(operation);
    if (has_room) {
        Py_BEGIN_ALLOW_THREADS;
        result = pl_lead(self, &leading);
        Py_END_ALLOW_THREADS;
    }
    pl_hold_release(leading.lock);
    pl_hold_release(leading.token);
    if (!leading.is_logged) {
        Py_DECREF(operation);
    }
    Py_XDECREF(steps.no_arguments);
    PyObject *raised = steps.failure != NULL ? steps.failure : steps.interrupted;
    if (raised != NULL) {
        pl_python_give_exception(raised);
        return NULL;
    }
    if (result == PL_BUSY) {
        return PyErr_NoMemory();
    }
    return Py_BuildValue("iKKi", result, (unsigned long long)leading.number,
                         (unsigned long long)leading.late, leading.breach);
}

static PyMethodDef functions[] = {
    {"lead", lead, METH_VARARGS,
     "Lead an operation (csrc/lead.h): group, token, guard, operation, its pl_operation, wake, "
     "commit, nanoseconds. Blocks."},
    {NULL, NULL, 0, NULL},
};

int pl_python_add_shared(PyObject *dictionary) {
    pl_python.shared = pl_python_add_type(dictionary, &shared_spec);
    pl_python.handle =
        pl_python.shared != NULL ? pl_python_add_type(dictionary, &handle_spec) : NULL;
    PyObject *function = pl_python.handle != NULL ? PyCFunction_NewEx(functions, NULL, NULL) : NULL;
    int result =
        function != NULL ? PyDict_SetItemString(dictionary, functions->ml_name, function) : -1;
    Py_XDECREF(function);
    return result;
}
