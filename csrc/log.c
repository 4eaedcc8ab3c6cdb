/* Discipline: see log.h. An entry is removed before its owner is released, because that may run
 * code that looks up entries. */
#include "log.h"

#include "replay.h"

#include <stdlib.h>
#include <string.h>

void pl_log_init(pl_log *log, pl_log_release release) {
    *log = (pl_log){.first = 1, .release = release};
}

void pl_log_destroy(pl_log *log) {
    pl_log_forget(log, log->last);
    free(log->entries);
    log->entries = NULL;
    log->start = log->capacity = 0;
}

size_t pl_log_count(const pl_log *log) {
    return atomic_load_explicit(&log->count, memory_order_acquire);
}

static void set_count(pl_log *log, size_t count) {
    atomic_store_explicit(&log->count, count, memory_order_release);
}

static void release(const pl_log *log, void *owner) {
    if (log->release != NULL && owner != NULL) {
        log->release(owner);
    }
}

int pl_log_reserve(pl_log *log) {
    size_t count = pl_log_count(log);
    if (log->start + count < log->capacity) {
        return 0;
    }
    if (log->start > count) { /* more than half of it is truncated */
        memmove(log->entries, log->entries + log->start, count * sizeof *log->entries);
        log->start = 0;
        return 0;
    }
    size_t capacity = 2 * log->capacity + 8;
    pl_log_entry *entries = realloc(log->entries, capacity * sizeof *entries);
    if (entries == NULL) {
        return -1;
    }
    log->entries = entries;
    log->capacity = capacity;
    return 0;
}

uint64_t pl_log_append(pl_log *log, const pl_operation *operation, void *owner) {
    if (operation == NULL && owner == NULL) {
        return ++log->last;
    }
    if (pl_log_reserve(log) != 0) {
        return 0;
    }
    size_t count = pl_log_count(log);
    log->entries[log->start + count] = (pl_log_entry){++log->last, operation, owner};
    set_count(log, count + 1);
    return log->last;
}

uint64_t pl_log_last(const pl_log *log) { return log->last; }

/* Returns the index of the first entry from `number` on, relative to `start`; `count` if there is
 * none. */
static size_t position(const pl_log *log, uint64_t number) {
    size_t low = 0, high = pl_log_count(log);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->entries[log->start + middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const pl_log_entry *pl_log_from(const pl_log *log, uint64_t number) {
    size_t at = position(log, number);
    return at == pl_log_count(log) ? NULL : log->entries + log->start + at;
}

const pl_log_entry *pl_log_at(const pl_log *log, uint64_t number) {
    const pl_log_entry *entry = pl_log_from(log, number);
    return entry != NULL && entry->number == number ? entry : NULL;
}

void pl_log_forget(pl_log *log, uint64_t number) {
    uint64_t first = (number < log->last ? number : log->last) + 1;
    log->first = first > log->first ? first : log->first;
    size_t count;
    while ((count = pl_log_count(log)) != 0 && log->entries[log->start].number <= number) {
        void *owner = log->entries[log->start].owner;
        log->start++;
        set_count(log, count - 1);
        release(log, owner);
    }
}

void pl_log_erase(pl_log *log, uint64_t number) {
    pl_log_entry *entry = (pl_log_entry *)pl_log_at(log, number);
    if (entry == NULL) {
        return;
    }
    void *owner = entry->owner;
    if (entry->operation != NULL && entry->operation->table_size > log->table_size) {
        log->table_size = entry->operation->table_size;
    }
    size_t count = pl_log_count(log);
    memmove(entry, entry + 1,
            (count - 1 - (size_t)(entry - (log->entries + log->start))) * sizeof *entry);
    set_count(log, count - 1);
    release(log, owner);
}
