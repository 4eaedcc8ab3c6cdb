/* log: the operations of one universe by number, from 1, and what keeps each of them alive.
 *
 * An entry has what the core carries out (replay.h), or NULL where that is not C's, and an
 * owner: an object of the caller's that is released with the entry. A number without an entry is
 * an operation that does nothing: it was withdrawn, or erased.
 *
 * A group that stays parked keeps the log from forgetting. So that it does not grow without
 * bound, the linker erases operations that come to nothing for every group that has yet to
 * replay them (pylinker/linker/load/compaction.py has the argument). All that an erased one
 * leaves is the size of the table: it is the same in all groups whatever was erased.
 *
 * Protected by: the lock of LinkerState. Appending, forgetting and erasing need it for writing,
 * looking for reading. `release` is called without any lock of this log's, and may look at it.
 * Blocking: never, but for what `release` does. Memory order: `count` is stored with release
 * after the entry, so that a thread that only iterates over owners (CPython's collector) sees
 * whole entries while a leader appends; reserving, forgetting and erasing are for a thread that
 * excludes such a one.
 *
 *     if (pl_log_reserve(log) != 0) return no_memory;
 *     pl_log_append(log, operation, owner);               // cannot fail
 *     pl_log_forget(log, pl_shared_applied_by_all(shared)); */
#ifndef PL_LOG_H
#define PL_LOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The owner of an entry is not needed any more. */
typedef void (*pl_log_release)(void *owner);

typedef struct pl_log_entry {
    uint64_t number;
    const struct pl_operation *operation; /* may be NULL */
    void *owner;                          /* may be NULL */
} pl_log_entry;

typedef struct pl_log {
    pl_log_entry *entries; /* by ascending numbers, from `start` on */
    size_t start, capacity;
    atomic_size_t count;
    uint64_t first;      /* everything before was forgotten */
    uint64_t last;       /* the number of the newest operation */
    uint64_t table_size; /* that operations which were erased ask for */
    pl_log_release release;
} pl_log;

/* Makes an empty log; `release` may be NULL. It never fails. */
void pl_log_init(pl_log *log, pl_log_release release);
/* Drops everything, and the memory. */
void pl_log_destroy(pl_log *log);

/* Makes room for one more. 0, or -1 if there is no memory. */
int pl_log_reserve(pl_log *log);
/* Adds the next operation, which does nothing if both are NULL. Returns its number, or 0 if
 * there is no memory: never after pl_log_reserve. */
uint64_t pl_log_append(pl_log *log, const struct pl_operation *operation, void *owner);
/* The number of the newest operation, 0 if there never was one. */
uint64_t pl_log_last(const pl_log *log);
/* How many entries there are. */
size_t pl_log_count(const pl_log *log);
/* The oldest entry from `number` on, or NULL. It stays where it is until the log changes. */
const pl_log_entry *pl_log_from(const pl_log *log, uint64_t number);
/* The entry with this number, or NULL. */
const pl_log_entry *pl_log_at(const pl_log *log, uint64_t number);
/* Drops everything up to `number`. */
void pl_log_forget(pl_log *log, uint64_t number);
/* Drops one operation, which does nothing from now on but ask for the size of its table. */
void pl_log_erase(pl_log *log, uint64_t number);

#endif
