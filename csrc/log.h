/* log: the operations of one universe by number, from 1, with their owners.
 *
 * An entry has the operation that the core replays (replay.h), or NULL for one that C does not
 * replay, and an owner: an object of the caller's that is released with the entry. A number without
 * an entry is a no-op: the operation was withdrawn, or erased.
 *
 * A group that stays parked prevents truncation of the log. To bound its size, the linker erases
 * operations that have no effect for any group that has yet to replay them
 * (pylinker/linker/load/compaction.py has the argument). An erased operation leaves only the size
 * of its table: it is the same in all groups whatever was erased.
 *
 * Protects: nothing.
 * Requires: the lock of LinkerState: for writing to append, truncate and erase, for reading to look
 * up.
 * Blocks: never, except for what `release` does. `release` is called without a lock of the log, and
 * may look up entries.
 * Memory order: `count` is stored with release after the entry, so a thread that only iterates over
 * owners (CPython's collector) sees complete entries while a leader appends; reserving, truncating
 * and erasing exclude such a thread.
 * Threads: as the lock allows.
 *
 *     if (pl_log_reserve(log) != 0) return no_memory;
 *     pl_log_append(log, operation, owner);               // cannot fail
 *     pl_log_forget(log, pl_shared_applied_by_all(shared)); */
#ifndef PL_LOG_H
#define PL_LOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Releases the owner of a removed entry. */
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
    uint64_t first;      /* the log is truncated before this number */
    uint64_t last;       /* the number of the newest operation */
    uint64_t table_size; /* the largest table size of erased operations */
    pl_log_release release;
} pl_log;

/* Initializes an empty log; `release` may be NULL. Never fails. */
void pl_log_init(pl_log *log, pl_log_release release);
/* Releases all entries, and the memory. */
void pl_log_destroy(pl_log *log);

/* Reserves room for one more entry. Returns 0, or -1 if out of memory. */
int pl_log_reserve(pl_log *log);
/* Appends the next operation, a no-op if both are NULL. Returns its number, or 0 if out of memory,
 * which does not happen after pl_log_reserve. */
uint64_t pl_log_append(pl_log *log, const struct pl_operation *operation, void *owner);
/* Returns the number of the newest operation, 0 if there was none. */
uint64_t pl_log_last(const pl_log *log);
/* Returns the number of entries. */
size_t pl_log_count(const pl_log *log);
/* Returns the oldest entry from `number` on, or NULL. Valid until the log changes. */
const pl_log_entry *pl_log_from(const pl_log *log, uint64_t number);
/* Returns the entry with this number, or NULL. */
const pl_log_entry *pl_log_at(const pl_log *log, uint64_t number);
/* Truncates the log up to `number`. */
void pl_log_forget(pl_log *log, uint64_t number);
/* Erases one operation, which becomes a no-op except for the size of its table. */
void pl_log_erase(pl_log *log, uint64_t number);

#endif
