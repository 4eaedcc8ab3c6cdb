/* Discipline: `set` is atomic. */
#include "flag.h"

int pl_flag_load(const pl_flag *flag, int order) {
    switch (order) {
    case PL_RELAXED:
        return atomic_load_explicit(&flag->set, memory_order_relaxed);
    case PL_ACQUIRE:
        return atomic_load_explicit(&flag->set, memory_order_acquire);
    default:
        return atomic_load(&flag->set);
    }
}

void pl_flag_set(pl_flag *flag) { atomic_store(&flag->set, 1); }

void pl_flag_clear(pl_flag *flag) { atomic_store(&flag->set, 0); }
