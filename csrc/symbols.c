/* Discipline: read-only once made. */
#include "symbols.h"

#include <stdlib.h>
#include <string.h>

struct pl_symbols {
    pl_symbols_parts parts; /* `symbols` and `wanted` are its own */
    uint64_t *hashes;       /* of the symbols, then of the imports */
    /* open addressing: a symbol's index and one more, 0 for nothing; at most half full */
    uint32_t *table;
    uint32_t mask;
    uint64_t *filter; /* two bits for each symbol, of sixteen */
    uint32_t filter_mask;
};

static uint64_t keys[2];

void pl_symbols_key(uint64_t first, uint64_t second) {
    keys[0] = first;
    keys[1] = second;
}

/* SipHash-1-3: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). */

static uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static void mix(uint64_t v[4]) {
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

uint64_t pl_symbols_hash(const char *name, size_t length) {
    uint64_t v[4] = {keys[0] ^ 0x736f6d6570736575u, keys[1] ^ 0x646f72616e646f6du,
                     keys[0] ^ 0x6c7967656e657261u, keys[1] ^ 0x7465646279746573u};
    uint64_t word;
    size_t done = 0;
    for (; length - done >= sizeof word; done += sizeof word) {
        memcpy(&word, name + done, sizeof word);
        v[3] ^= word;
        mix(v);
        v[0] ^= word;
    }
    word = 0;
    if (length != done) {
        memcpy(&word, name + done, length - done);
    }
    word ^= (uint64_t)length << 56;
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    mix(v);
    mix(v);
    mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Tables */

static void *copy(const void *from, size_t size) {
    void *to = malloc(size != 0 ? size : 1);
    if (to != NULL && size != 0) {
        memcpy(to, from, size);
    }
    return to;
}

/* The least power of two that is not below `value`. */
static uint32_t power(uint64_t value) {
    uint32_t result = 1;
    while (result < value) {
        result *= 2;
    }
    return result;
}

static uint64_t *filter_word(const pl_symbols *symbols, uint64_t hash) {
    return symbols->filter + (hash >> 32 & symbols->filter_mask);
}

static uint64_t filter_bits(uint64_t hash) {
    return (uint64_t)1 << (hash >> 58) | (uint64_t)1 << (hash >> 52 & 63);
}

static void enter(pl_symbols *symbols, uint32_t index) {
    const uint32_t *offset = symbols->parts.offsets + symbols->parts.symbols[index].position;
    uint64_t hash = symbols->hashes[index] =
        pl_symbols_hash(symbols->parts.names + offset[0], offset[1] - offset[0]);
    uint32_t place = (uint32_t)hash & symbols->mask;
    while (symbols->table[place] != 0) {
        place = (place + 1) & symbols->mask;
    }
    symbols->table[place] = index + 1;
    *filter_word(symbols, hash) |= filter_bits(hash);
}

int pl_symbols_fit(const uint32_t *offsets, uint32_t count, size_t size) {
    int fits = offsets[0] == 0 && offsets[count] <= size;
    for (uint32_t i = 0; i < count; i++) {
        fits &= offsets[i] <= offsets[i + 1];
    }
    return fits;
}

int pl_symbols_check(const pl_symbols_parts *parts) {
    int good = 1;
    for (uint32_t i = 0; i < parts->symbol_count; i++) {
        const pl_symbol *symbol = parts->symbols + i;
        good &= symbol->position < parts->name_count && symbol->type_index < parts->type_count;
    }
    for (uint32_t i = 0; i < parts->wanted_count; i++) {
        const pl_wanted *wanted = parts->wanted + i;
        good &= wanted->same <= i &&
                (wanted->kind != PL_WANTED_FUNCTION || wanted->type < parts->type_count);
    }
    return good;
}

/* A copy of records, with numbers for types. */
static pl_symbol *copy_symbols(const pl_symbols_parts *parts) {
    pl_symbol *symbols = copy(parts->symbols, parts->symbol_count * sizeof *symbols);
    for (uint32_t i = 0; symbols != NULL && i < parts->symbol_count; i++) {
        symbols[i].type = parts->types[symbols[i].type_index];
    }
    return symbols;
}

static pl_wanted *copy_wanted(const pl_symbols_parts *parts) {
    pl_wanted *wanted = copy(parts->wanted, parts->wanted_count * sizeof *wanted);
    for (uint32_t i = 0; wanted != NULL && i < parts->wanted_count; i++) {
        if (wanted[i].kind == PL_WANTED_FUNCTION) {
            wanted[i].type = parts->types[wanted[i].type];
        }
    }
    return wanted;
}

pl_symbols *pl_symbols_new(const pl_symbols_parts *parts) {
    pl_symbols *symbols = calloc(1, sizeof *symbols);
    if (symbols == NULL) {
        return NULL;
    }
    uint32_t size = power(2 * (uint64_t)parts->symbol_count + 1),
             words = power((uint64_t)parts->symbol_count / 4 + 1);
    symbols->parts = *parts;
    symbols->parts.symbols = copy_symbols(parts);
    symbols->parts.wanted = copy_wanted(parts);
    symbols->parts.types = NULL;
    symbols->hashes =
        calloc((size_t)parts->symbol_count + parts->wanted_count + 1, sizeof *symbols->hashes);
    symbols->table = calloc(size, sizeof *symbols->table);
    symbols->mask = size - 1;
    symbols->filter = calloc(words, sizeof *symbols->filter);
    symbols->filter_mask = words - 1;
    if (symbols->parts.symbols == NULL || symbols->parts.wanted == NULL ||
        symbols->hashes == NULL || symbols->table == NULL || symbols->filter == NULL) {
        pl_symbols_free(symbols);
        return NULL;
    }
    for (uint32_t i = 0; i < parts->symbol_count; i++) {
        enter(symbols, i);
    }
    for (uint32_t i = 0; i < parts->wanted_count; i++) {
        const uint32_t *offset = parts->wanted_offsets + i;
        symbols->hashes[parts->symbol_count + i] =
            pl_symbols_hash(parts->wanted_names + offset[0], offset[1] - offset[0]);
    }
    return symbols;
}

void pl_symbols_free(pl_symbols *symbols) {
    if (symbols != NULL) {
        free((void *)symbols->parts.symbols);
        free((void *)symbols->parts.wanted);
        free(symbols->hashes);
        free(symbols->table);
        free(symbols->filter);
        free(symbols);
    }
}

const pl_symbol *pl_symbols_find(const pl_symbols *symbols, uint64_t hash, const char *name,
                                 size_t length) {
    uint64_t bits = filter_bits(hash);
    if ((*filter_word(symbols, hash) & bits) != bits) {
        return NULL;
    }
    for (uint32_t place = (uint32_t)hash & symbols->mask; symbols->table[place] != 0;
         place = (place + 1) & symbols->mask) {
        uint32_t index = symbols->table[place] - 1;
        const pl_symbol *symbol = symbols->parts.symbols + index;
        const uint32_t *offset = symbols->parts.offsets + symbol->position;
        if (symbols->hashes[index] == hash && offset[1] - offset[0] == length &&
            memcmp(symbols->parts.names + offset[0], name, length) == 0) {
            return symbol;
        }
    }
    return NULL;
}

uint32_t pl_symbols_count(const pl_symbols *symbols) { return symbols->parts.symbol_count; }

const pl_symbol *pl_symbols_at(const pl_symbols *symbols, uint32_t index) {
    return symbols->parts.symbols + index;
}

uint32_t pl_symbols_wanted_count(const pl_symbols *symbols) { return symbols->parts.wanted_count; }

const pl_wanted *pl_symbols_wanted(const pl_symbols *symbols, uint32_t index, const char **name,
                                   size_t *length, uint64_t *hash) {
    const uint32_t *offset = symbols->parts.wanted_offsets + index;
    *name = symbols->parts.wanted_names + offset[0];
    *length = offset[1] - offset[0];
    *hash = symbols->hashes[symbols->parts.symbol_count + index];
    return symbols->parts.wanted + index;
}
