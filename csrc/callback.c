/* Discipline: `python` is read-only once there are guests; the rest belongs to the thread of the
 * group. */
#include "callback.h"

#include <math.h>
#include <string.h>

static pl_callbacks python;

static const int64_t failed = INT64_MIN + 1;
static const double failed_double = -0x1.9c4e7a25d3f16p-991;

void pl_callbacks_set(const pl_callbacks *callbacks) { python = *callbacks; }

int64_t pl_callback_failed(void) { return failed; }

double pl_callback_failed_double(void) { return failed_double; }

void pl_callback_set_genuine(int genuine) { pl_set_genuine(genuine); }

static unsigned parameters(uint32_t type) { return type >> 4 & 15; }

static unsigned result_of(uint32_t type) { return type >> 8 & 3; }

static int is_wide(uint32_t type, unsigned index) { return type >> (16 + index) & 1; }

/* Requires that the group is PARKED. */
static pl_trap *explain(const pl_import *import, int failure, int64_t integer, double number) {
    char message[PL_MESSAGE_CAPACITY] = "a host function failed";
    python.explain(import->function.handle, failure, integer, number, message, sizeof message);
    message[sizeof message - 1] = '\0';
    return pl_trap_of(message);
}

static int64_t call_integers(uintptr_t handle, uint32_t type, const int64_t *a) {
    unsigned result = result_of(type);
    switch (parameters(type)) {
    case 0:
        return python.integers0[result](handle);
    case 1:
        return python.integers1[result](handle, a[0]);
    case 2:
        return python.integers2[result](handle, a[0], a[1]);
    case 3:
        return python.integers3[result](handle, a[0], a[1], a[2]);
    case 4:
        return python.integers4[result](handle, a[0], a[1], a[2], a[3]);
    case 5:
        return python.integers5[result](handle, a[0], a[1], a[2], a[3], a[4]);
    default:
        return python.integers6[result](handle, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}

static pl_trap *integers(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)count;
    pl_import *import = environment;
    uint32_t type = import->type;
    int64_t arguments[PL_CALLBACK_INTEGERS];
    for (unsigned i = 0; i < parameters(type); i++) {
        arguments[i] = is_wide(type, i) ? values[i].i64 : values[i].i32;
    }
    import->function.entries++;
    pl_group *group = import->function.group;
    int before = pl_safepoint_park(pl_group_safepoint(group));
    pl_trap *trap = NULL;
    int64_t result = call_integers(import->function.handle, type, arguments);
    if (result == failed && !pl_take_genuine()) {
        trap = explain(import, PL_CALLBACK_RAISED, 0, 0);
    } else if (result_of(type) == PL_RESULT_WIDE) {
        values[0].i64 = result;
    } else if (result_of(type) == PL_RESULT_NARROW) {
        if (result < INT32_MIN || result > (int64_t)UINT32_MAX) {
            trap = explain(import, PL_CALLBACK_TOO_WIDE, result, 0);
        } else {
            values[0].i32 = (int32_t)(uint32_t)result;
        }
    }
    return pl_host_return(group, before, trap);
}

static double double_of(const pl_value *values, uint32_t type, unsigned index) {
    return is_wide(type, index) ? values[index].f64 : (double)values[index].f32;
}

static double call_doubles(uintptr_t handle, uint32_t type, const pl_value *values) {
    switch (parameters(type)) {
    case 1:
        return python.double1(handle, double_of(values, type, 0));
    case 2:
        return python.double2(handle, double_of(values, type, 0), double_of(values, type, 1));
    default:
        return python.double3(handle, double_of(values, type, 0), double_of(values, type, 1),
                              double_of(values, type, 2));
    }
}

static pl_trap *doubles(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)count;
    pl_import *import = environment;
    uint32_t type = import->type;
    import->function.entries++;
    pl_group *group = import->function.group;
    int before = pl_safepoint_park(pl_group_safepoint(group));
    pl_trap *trap = NULL;
    double result = call_doubles(import->function.handle, type, values);
    if (result == failed_double && !pl_take_genuine()) {
        trap = explain(import, PL_CALLBACK_RAISED, 0, 0);
    } else if (result_of(type) == PL_RESULT_WIDE) {
        values[0].f64 = result;
    } else {
        float narrow = (float)result;
        if (isinf(narrow) && !isinf(result)) {
            trap = explain(import, PL_CALLBACK_TOO_LARGE, 0, result);
        } else {
            values[0].f32 = narrow;
        }
    }
    return pl_host_return(group, before, trap);
}

pl_callback_function pl_callback(uint32_t type) {
    switch (type & 15) {
    case PL_FORM_INTEGERS:
        return integers;
    case PL_FORM_DOUBLES:
        return doubles;
    default:
        return pl_host_enter;
    }
}
