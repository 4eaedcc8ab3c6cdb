/* dlsym_cache: hits, misses, and that a hit is never another question's result. */
#include "check.h"

#include "dlsym_cache.h"

#include <string.h>

enum { HALF = PL_DLSYM_CACHE_CAPACITY / 2, RANDOM_STEPS = 200000, KNOWN = 600 };

static pl_dlsym_cache *cache;

static void set_up(void) {
    cache = pl_dlsym_cache_new();
    CHECK(cache != NULL);
}

static void tear_down(void) { pl_dlsym_cache_free(cache); }

static void put(uint64_t generation, uintptr_t caller, int64_t scope, const char *name,
                uint32_t value) {
    pl_dlsym_cache_put(cache, generation, caller, scope, name, strlen(name), value);
}

/* The value, or -1. */
static int64_t get(uint64_t generation, uintptr_t caller, int64_t scope, const char *name) {
    uint32_t value = 12345;
    int found = pl_dlsym_cache_get(cache, generation, caller, scope, name, strlen(name), &value);
    CHECK(found == 1 || (found == 0 && value == 12345));
    return found ? (int64_t)value : -1;
}

static void test_only_the_same_caller_scope_and_name_is_found(void) {
    set_up();
    CHECK(get(0, 1, 2, "name") == -1); /* nothing is there yet, not even room */
    put(0, 1, 2, "name", 7);
    CHECK(get(0, 1, 2, "name") == 7);
    CHECK(get(0, 2, 2, "name") == -1);
    CHECK(get(0, 1, -2, "name") == -1);
    CHECK(get(0, 1, 2, "nam") == -1 && get(0, 1, 2, "names") == -1 && get(0, 1, 2, "nbme") == -1 &&
          get(0, 1, 2, "") == -1);
    put(0, 2, 2, "name", 8);
    put(0, 1, -2, "name", 9);
    put(0, 1, 2, "", 10);
    CHECK(get(0, 1, 2, "name") == 7 && get(0, 2, 2, "name") == 8 && get(0, 1, -2, "name") == 9 &&
          get(0, 1, 2, "") == 10);
    put(0, 1, 2, "name", UINT32_MAX); /* again */
    CHECK(get(0, 1, 2, "name") == UINT32_MAX && get(0, 2, 2, "name") == 8);
    tear_down();
    pl_dlsym_cache_free(NULL);
}

static void test_name_is_copied_with_all_its_bytes(void) {
    set_up();
    char text[] = "a\0b";
    uint32_t value;
    pl_dlsym_cache_put(cache, 3, 1, 1, text, 3, 5);
    pl_dlsym_cache_put(cache, 3, 1, 1, text, 2, 6);
    CHECK(pl_dlsym_cache_get(cache, 3, 1, 1, text, 3, &value) && value == 5);
    CHECK(pl_dlsym_cache_get(cache, 3, 1, 1, text, 2, &value) && value == 6);
    CHECK(!pl_dlsym_cache_get(cache, 3, 1, 1, text, 1, &value));
    text[2] = 'c';
    CHECK(!pl_dlsym_cache_get(cache, 3, 1, 1, text, 3, &value));
    text[2] = 'b';
    CHECK(pl_dlsym_cache_get(cache, 3, 1, 1, text, 3, &value) && value == 5);
    tear_down();
}

static void test_everything_is_forgotten_when_names_mean_something_else(void) {
    set_up();
    put(4, 1, 1, "a", 1);
    put(4, 1, 1, "b", 2);
    CHECK(get(5, 1, 1, "a") == -1 && get(3, 1, 1, "a") == -1);
    CHECK(get(4, 1, 1, "a") == 1); /* looking does not forget */
    put(5, 1, 1, "a", 3);
    CHECK(get(5, 1, 1, "a") == 3 && get(5, 1, 1, "b") == -1);
    CHECK(get(4, 1, 1, "a") == -1 && get(4, 1, 1, "b") == -1);
    tear_down();
}

static void test_too_long_a_name_is_not_kept(void) {
    set_up();
    char text[PL_DLSYM_NAME_LENGTH + 2];
    uint32_t value;
    memset(text, 'x', sizeof text);
    pl_dlsym_cache_put(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH + 1, 1);
    CHECK(!pl_dlsym_cache_get(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH + 1, &value));
    pl_dlsym_cache_put(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH, 2);
    CHECK(pl_dlsym_cache_get(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH, &value) && value == 2);
    CHECK(!pl_dlsym_cache_get(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH + 1, &value));
    CHECK(!pl_dlsym_cache_get(cache, 0, 1, 1, text, PL_DLSYM_NAME_LENGTH - 1, &value));
    tear_down();
}

static void test_full_one_is_emptied(void) {
    set_up();
    char text[16];
    for (uint32_t i = 0; i < HALF; i++) {
        snprintf(text, sizeof text, "name%u", (unsigned)i);
        put(0, 1, 1, text, i);
    }
    /* with half of the places free, a search always comes to an end */
    for (uint32_t i = 0; i < HALF; i++) {
        snprintf(text, sizeof text, "name%u", (unsigned)i);
        CHECK(get(0, 1, 1, text) == i);
    }
    CHECK(get(0, 1, 1, "absent") == -1);
    put(0, 1, 1, "one more", 1000);
    CHECK(get(0, 1, 1, "one more") == 1000 && get(0, 1, 1, "name0") == -1 &&
          get(0, 1, 1, "name255") == -1);
    put(0, 1, 1, "name0", 5);
    CHECK(get(0, 1, 1, "name0") == 5 && get(0, 1, 1, "one more") == 1000);
    tear_down();
}

/* Questions with the same hash: of FNV-1a as cache.c has it, so that only what is compared tells
 * them apart. */

static const uint64_t start = UINT64_C(0xcbf29ce484222325), prime = UINT64_C(0x100000001b3);

static uint64_t inverse(uint64_t odd) {
    uint64_t result = odd;
    for (int i = 0; i < 6; i++) {
        result *= 2 - odd * result;
    }
    return result;
}

/* The scope in which a name of this caller has the same hash as `hash` before the last mixing. */
static int64_t scope_for(uint64_t hash, uintptr_t caller, const char *name) {
    for (size_t length = strlen(name); length > 0; length--) {
        hash = hash * inverse(prime) ^ (uint8_t)name[length - 1];
    }
    return (int64_t)(hash ^ (start ^ caller) * prime);
}

static void test_same_hash_is_not_the_same_question(void) {
    static const struct {
        uintptr_t caller;
        const char *name;
    } questions[] = {{1, ""},
                     {2, ""},
                     {1, "a"},
                     {1, "b"},
                     {3, "ab"},
                     {1, "ac"},
                     {1, "a much longer name than the others"}};
    enum { COUNT = sizeof questions / sizeof *questions };
    for (int i = 0; i < COUNT; i++) {
        set_up();
        for (int j = 0; j <= i; j++) {
            put(0, questions[j].caller, scope_for(42, questions[j].caller, questions[j].name),
                questions[j].name, (uint32_t)j);
        }
        for (int j = 0; j < COUNT; j++) {
            int64_t scope = scope_for(42, questions[j].caller, questions[j].name);
            CHECK(get(0, questions[j].caller, scope, questions[j].name) == (j <= i ? j : -1));
        }
        tear_down();
    }
}

/* At random, against a plain list: what is found is what was put last under this count, or it is
 * not found. The callers are addresses that lie side by side, and the cache differ in one
 * letter, so that many of them come to the same place of the table. */

static struct {
    uint64_t generation;
    uint32_t value;
    int is_put;
} known[KNOWN];

static void test_what_is_found_is_what_was_put(void) {
    uint64_t chance = random_seed(5, 1), generation = 1;
    long hits = 0, misses = 0;
    set_up();
    for (long i = 0; i < RANDOM_STEPS; i++) {
        unsigned key = random_below(&chance, KNOWN);
        uintptr_t caller = 0x1000 + 16 * (key % 5);
        int64_t scope = (int64_t)(key / 5 % 4) - 1;
        char text[8];
        snprintf(text, sizeof text, "f%c%u", 'a' + (int)(key % 3), key / 20);
        if (random_below(&chance, 2000) == 0) {
            generation++;
        }
        if (random_below(&chance, 3) == 0) {
            known[key].generation = generation;
            known[key].value = (uint32_t)random_next(&chance);
            known[key].is_put = 1;
            put(generation, caller, scope, text, known[key].value);
        } else {
            int64_t found = get(generation, caller, scope, text);
            CHECK(found == -1 || (known[key].is_put && known[key].generation == generation &&
                                  found == known[key].value));
            hits += found != -1;
            misses += found == -1;
        }
    }
    CHECK(hits > RANDOM_STEPS / 20 && misses > RANDOM_STEPS / 20);
    tear_down();
}

static void test_lack_of_memory_is_a_miss(void) {
    atomic_store(&inject_memory, 0);
    CHECK(pl_dlsym_cache_new() == NULL);
    for (int left = 0; left < 2; left++) {
        atomic_store(&inject_memory, -1);
        set_up();
        atomic_store(&inject_memory, left); /* for the table, for the name */
        put(0, 1, 1, "name", 1);
        atomic_store(&inject_memory, -1);
        CHECK(get(0, 1, 1, "name") == -1);
        put(0, 1, 1, "name", 2);
        CHECK(get(0, 1, 1, "name") == 2);
        tear_down();
    }
}

int main(void) {
    check_begin(0);
    RUN(test_only_the_same_caller_scope_and_name_is_found);
    RUN(test_name_is_copied_with_all_its_bytes);
    RUN(test_everything_is_forgotten_when_names_mean_something_else);
    RUN(test_too_long_a_name_is_not_kept);
    RUN(test_full_one_is_emptied);
    RUN(test_same_hash_is_not_the_same_question);
    RUN(test_what_is_found_is_what_was_put);
    RUN(test_lack_of_memory_is_a_miss);
    return 0;
}
