/* callback: Python functions of the user that guests import.
 *
 * Python is called with plain numbers where the type allows it: there is one Python function for
 * each number of integers, and for doubles, so a call creates, looks up and checks nothing besides
 * the numbers. All other types use the general path of hostfn.h.
 *
 * Protocol: a function that fails returns pl_callback_failed(), or pl_callback_failed_double(). A
 * function whose genuine result is this number calls pl_callback_set_genuine(1) first. After a
 * failure, and for a result out of range, `explain` writes the message of the trap.
 *
 * States: as hostfn.h. The group is PARKED while Python runs, which may call the guest again.
 * Protects: nothing. The table is set before the first guest runs and read-only afterwards.
 * Blocks: as long as the Python function does.
 * Threads: any number at once, each with its own group. */
#ifndef PL_CALLBACK_H
#define PL_CALLBACK_H

#include "instances.h"

/* The most parameters that are passed as numbers. */
enum { PL_CALLBACK_INTEGERS = 6, PL_CALLBACK_DOUBLES = 3 };

/* How the values of a function are passed. */
enum pl_callback_form {
    PL_FORM_RAW = 0,      /* raw: any type */
    PL_FORM_INTEGERS = 1, /* all parameters and the result, if there is one, are i32 or i64 */
    /* all parameters are f32 or f64, and there is a result of one of these types */
    PL_FORM_DOUBLES = 2
};

/* nothing; i32, f32; i64, f64 */
enum pl_callback_result { PL_RESULT_NONE = 0, PL_RESULT_NARROW = 1, PL_RESULT_WIDE = 2 };

/* A type is encoded as form + 16 * (number of parameters) + 256 * (enum pl_callback_result)
 * + 65536 * (bit i: parameter i is wide). */

/* The reason for the message of a trap. */
enum pl_callback_failure {
    PL_CALLBACK_RAISED = 0,   /* the function raised an exception */
    PL_CALLBACK_TOO_WIDE = 1, /* its result, an integer, does not fit into 32 bits */
    PL_CALLBACK_TOO_LARGE = 2 /* its result, a double, is beyond all f32 */
};

typedef int64_t (*pl_callback0)(uintptr_t handle);
typedef int64_t (*pl_callback1)(uintptr_t handle, int64_t a);
typedef int64_t (*pl_callback2)(uintptr_t handle, int64_t a, int64_t b);
typedef int64_t (*pl_callback3)(uintptr_t handle, int64_t a, int64_t b, int64_t c);
typedef int64_t (*pl_callback4)(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d);
typedef int64_t (*pl_callback5)(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d,
                                int64_t e);
typedef int64_t (*pl_callback6)(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d,
                                int64_t e, int64_t f);
typedef double (*pl_callback_double1)(uintptr_t handle, double a);
typedef double (*pl_callback_double2)(uintptr_t handle, double a, double b);
typedef double (*pl_callback_double3)(uintptr_t handle, double a, double b, double c);
typedef void (*pl_callback_explain)(uintptr_t handle, int failure, int64_t integer, double number,
                                    char *message, size_t capacity);

/* The entry points in Python: one function for each enum pl_callback_result and number of integers,
 * and one for each number of doubles. */
typedef struct pl_callbacks {
    pl_callback0 integers0[3];
    pl_callback1 integers1[3];
    pl_callback2 integers2[3];
    pl_callback3 integers3[3];
    pl_callback4 integers4[3];
    pl_callback5 integers5[3];
    pl_callback6 integers6[3];
    pl_callback_double1 double1;
    pl_callback_double2 double2;
    pl_callback_double3 double3;
    pl_callback_explain explain;
} pl_callbacks;

void pl_callbacks_set(const pl_callbacks *callbacks);

int64_t pl_callback_failed(void);
double pl_callback_failed_double(void);
/* Marks the next result of the calling thread as genuine (1) even if it equals the failure value,
 * or not (0). */
void pl_callback_set_genuine(int genuine);

typedef pl_trap *(*pl_callback_function)(void *environment, pl_caller *caller, pl_value *values,
                                         size_t count);

/* Returns the function that wasmtime calls with a pl_import of `type`, encoded as above. */
pl_callback_function pl_callback(uint32_t type);

#endif
