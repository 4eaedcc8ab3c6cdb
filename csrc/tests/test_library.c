/* library: copies, reference counts, and the publication of trampoline targets between
 * threads. */
#include "check.h"

#include "library.h"

#include <string.h>

enum { ROUNDS = 3000, TRAMPOLINES = 3, GROUPS = 3 };

static const uint32_t offsets[] = {0, 3, 3, 9};

static const pl_module *const blocks[] = {(const pl_module *)0x20}, *const others[] = {
                                                                        (const pl_module *)0x21};

static pl_library_parts some_parts(const pl_source *sources, uint32_t source_count,
                                   const uint32_t *slots, uint32_t slot_count) {
    return (pl_library_parts){.code = (const pl_module *)0x10,
                              .trampolines = blocks,
                              .trampoline_count = TRAMPOLINES,
                              .resolver = 30,
                              .sources = sources,
                              .source_count = source_count,
                              .names = "onethreee",
                              .offsets = offsets,
                              .export_count = 3,
                              .slot_exports = slots,
                              .slot_count = slot_count,
                              .slot_base = 40,
                              .place = 50,
                              .export_memory = -1,
                              .export_table = 1,
                              .export_stack_pointer = 2,
                              .export_tls_base = 3,
                              .export_tls_init = 4,
                              .export_tls_relocs = 5};
}

static pl_library *make(void) {
    pl_library_parts parts = some_parts(NULL, 0, NULL, 0);
    pl_library *library = pl_library_new(&parts);
    CHECK(library != NULL);
    return library;
}

static void test_what_it_is_made_of_is_copied(void) {
    pl_source *sources = (calloc)(2, sizeof *sources);
    uint32_t *slots = (calloc)(2, sizeof *slots);
    sources[0] = (pl_source){.kind = PL_SOURCE_CELL, .value = -7};
    sources[1] =
        (pl_source){.kind = PL_SOURCE_HOST, .index = 3, .handle = 9, .type = (const pl_type *)0x60};
    slots[0] = 2;
    slots[1] = 1;
    pl_library_parts parts = some_parts(sources, 2, slots, 2);
    pl_library *library = pl_library_new(&parts);
    memset(&parts, 0xff, sizeof parts);
    free(sources);
    free(slots);
    const pl_library_parts *kept = pl_library_parts_of(library);
    CHECK(kept->source_count == 2 && kept->sources[0].kind == PL_SOURCE_CELL &&
          kept->sources[0].value == -7);
    CHECK(kept->sources[1].kind == PL_SOURCE_HOST && kept->sources[1].index == 3 &&
          kept->sources[1].handle == 9);
    CHECK(kept->slot_count == 2 && kept->slot_exports[0] == 2 && kept->slot_exports[1] == 1 &&
          kept->slot_base == 40);
    CHECK(kept->code == (const pl_module *)0x10 && kept->trampolines != blocks &&
          kept->trampolines[0] == blocks[0] && kept->trampoline_count == TRAMPOLINES);
    CHECK(kept->resolver == 30 && kept->place == 50 && kept->export_memory == -1 &&
          kept->export_tls_relocs == 5);
    pl_library_release(library);
}

static void test_names_are_told_by_number(void) {
    pl_library *library = make();
    size_t length = 99;
    CHECK(memcmp(pl_library_name(library, 0, &length), "one", 3) == 0 && length == 3);
    pl_library_name(library, 1, &length);
    CHECK(length == 0);
    CHECK(memcmp(pl_library_name(library, 2, &length), "threee", 6) == 0 && length == 6);
    pl_library_release(library);
}

static void test_targets_are_set_taken_back_and_each_its_own(void) {
    pl_library *library = make(), *one = make(), *other = make();
    uint32_t number = 77;
    for (uint32_t i = 0; i < TRAMPOLINES; i++) {
        CHECK(pl_library_target(library, i, &number) == NULL);
    }
    pl_library_bind(library, 0, one, 5);
    pl_library_bind(library, 2, other, 6);
    CHECK(pl_library_target(library, 0, &number) == one && number == 5);
    CHECK(pl_library_target(library, 1, &number) == NULL);
    CHECK(pl_library_target(library, 2, &number) == other && number == 6);
    pl_library_unbind(library, 0);
    CHECK(pl_library_target(library, 0, &number) == NULL &&
          pl_library_target(library, 2, &number) == other);
    pl_library_bind(library, 0, other, 0);
    CHECK(pl_library_target(library, 0, &number) == other && number == 0);
    for (uint32_t i = TRAMPOLINES; i < TRAMPOLINES + 2; i++) { /* what the guest makes up */
        pl_library_bind(library, i, one, 1);
        pl_library_unbind(library, i);
        CHECK(pl_library_target(library, i, &number) == NULL);
    }
    CHECK(pl_library_target(library, UINT32_MAX, &number) == NULL);
    pl_library_release(library);
    pl_library_release(one);
    pl_library_release(other);
}

static void test_without_trampolines_there_are_no_targets(void) {
    pl_library_parts parts = some_parts(NULL, 0, NULL, 0);
    parts.trampoline_count = 0;
    pl_library *library = pl_library_new(&parts);
    uint32_t number;
    pl_library_bind(library, 0, library, 1);
    CHECK(pl_library_target(library, 0, &number) == NULL);
    pl_library_release(library);
}

static void test_trampolines_of_one_serve_others(void) {
    pl_library_parts parts = some_parts(NULL, 0, NULL, 0);
    parts.trampolines = NULL;
    parts.trampoline_count = 0;
    pl_library *owner = pl_library_new(&parts), *target = make();
    parts.plt_of = owner;
    parts.plt_base = 2;
    pl_library *user = pl_library_new(&parts);
    uint32_t number, index = 0;
    pl_library_bind(user, 0, target, 1); /* there are none yet */
    CHECK(pl_library_target(user, 0, &number) == NULL);
    CHECK(pl_library_set_trampolines(owner, others, 4, 31) == 0);
    const pl_library_parts *kept = pl_library_parts_of(owner);
    CHECK(kept->trampolines[0] == others[0] && kept->trampoline_count == 4 && kept->resolver == 31);
    CHECK(pl_library_plt(owner, &index) == owner && index == 0 &&
          pl_library_plt(user, &index) == owner && index == 2);
    pl_library_bind(owner, 0, target, 5);
    pl_library_bind(user, 1, target, 6);
    pl_library_bind(user, 2, target, 7); /* behind the last */
    CHECK(pl_library_target(user, 0, &number) == NULL &&
          pl_library_target(user, 2, &number) == NULL);
    CHECK(pl_library_target(user, 1, &number) == target && number == 6 &&
          pl_library_target(owner, 3, &number) == target);
    CHECK(pl_library_target(owner, 0, &number) == target && number == 5);
    pl_library_unbind(user, 1);
    CHECK(pl_library_target(owner, 3, &number) == NULL &&
          pl_library_target(owner, 0, &number) == target);
    pl_library_release(owner);
    index = 0;
    /* which the user keeps */
    CHECK(pl_library_plt(user, &index) == owner && pl_library_parts_of(owner)->place == 50);
    atomic_store(&inject_memory, 0);
    CHECK(pl_library_set_trampolines(user, others, 4, 31) == -1);
    atomic_store(&inject_memory, -1);
    pl_library_release(user);
    pl_library_release(target);
}

static void test_gone_is_for_good(void) {
    pl_library *library = make();
    CHECK(!pl_library_is_unloaded(library));
    pl_library_set_unloaded(library);
    pl_library_set_unloaded(library);
    CHECK(pl_library_is_unloaded(library));
    pl_library_release(library);
}

static void test_last_one_frees_it(void) {
    pl_library *library = make();
    for (int i = 0; i < 3; i++) {
        pl_library_retain(library);
    }
    for (int i = 0; i < 3; i++) {
        pl_library_release(library);
        CHECK(pl_library_parts_of(library)->place == 50);
    }
    pl_library_release(library); /* AddressSanitizer sees it if this was one too many, or too few */
    pl_library_release(NULL);
}

/* One thread creates libraries and binds trampolines to them; the others load the targets, as
 * groups do, and use them. All data of a target is plain: ThreadSanitizer reports a target that is
 * published without the writes before it. */

static pl_library *shared;
static atomic_int round_begun, done;
static uint32_t payload[ROUNDS + 1];

static void *look(void *seed) {
    uint64_t chance = random_seed(7, (uintptr_t)seed);
    inject_delays(random_seed(8, (uintptr_t)seed), 8);
    for (int round = 1; round <= ROUNDS; round++) {
        /* it orders nothing: only the target may */
        while (atomic_load_explicit(&round_begun, memory_order_relaxed) < round) {
            sched_yield();
        }
        uint32_t index = random_below(&chance, TRAMPOLINES), number;
        pl_library *target;
        AWAIT((target = pl_library_target(shared, index, &number)) != NULL);
        CHECK(number == (uint32_t)round && pl_library_parts_of(target)->place == (uint32_t)round &&
              payload[round] == number);
        if (random_below(&chance, 4) == 0) {
            pl_library_bind(shared, index, target, number); /* two find the same at once */
        }
        atomic_fetch_add(&done, 1);
    }
    return NULL;
}

static void test_targets_go_from_thread_to_thread(void) {
    shared = make();
    pthread_t threads[GROUPS];
    for (uintptr_t i = 0; i < GROUPS; i++) {
        threads[i] = thread_start(look, (void *)(i + 1));
    }
    inject_delays(random_seed(8, 0), 8);
    for (int round = 1; round <= ROUNDS; round++) {
        pl_library_parts parts = some_parts(NULL, 0, NULL, 0);
        parts.place = (uint32_t)round;
        pl_library *target = pl_library_new(&parts);
        payload[round] = (uint32_t)round;
        atomic_store_explicit(&round_begun, round, memory_order_relaxed);
        for (uint32_t i = 0; i < TRAMPOLINES; i++) {
            pl_library_bind(shared, i, target, (uint32_t)round);
        }
        /* all are parked: only now it is unbound */
        AWAIT(atomic_load(&done) == GROUPS * round);
        for (uint32_t i = 0; i < TRAMPOLINES; i++) {
            pl_library_unbind(shared, i);
        }
        pl_library_release(target);
    }
    for (int i = 0; i < GROUPS; i++) {
        thread_join(threads[i]);
    }
    inject_delays(0, 1);
    pl_library_release(shared);
}

/* Groups retain and release it; the last one frees it. */

static void *come_and_go(void *library) {
    inject_delays(random_seed(9, (uintptr_t)library & 0xff), 4);
    for (int i = 0; i < ROUNDS; i++) {
        pl_library_retain(library);
        CHECK(pl_library_parts_of(library)->place == 50);
        pl_library_release(library);
    }
    pl_library_release(library);
    return NULL;
}

static void test_last_of_many_threads_frees_it(void) {
    pl_library *library = make();
    pthread_t threads[GROUPS];
    for (int i = 0; i < GROUPS; i++) {
        pl_library_retain(library);
        threads[i] = thread_start(come_and_go, library);
    }
    pl_library_release(library);
    for (int i = 0; i < GROUPS; i++) {
        thread_join(threads[i]);
    }
}

static void test_lack_of_memory_is_told(void) {
    pl_source source = {.kind = PL_SOURCE_TABLE};
    uint32_t slot = 0;
    pl_library_parts parts = some_parts(&source, 1, &slot, 1);
    /* itself, its sources, its slots, its trampolines, its targets */
    for (int left = 0; left < 5; left++) {
        atomic_store(&inject_memory, left);
        CHECK(pl_library_new(&parts) == NULL);
    }
    parts.trampoline_count = 0;
    atomic_store(&inject_memory, 2); /* its slots */
    CHECK(pl_library_new(&parts) == NULL);
    parts.trampoline_count = TRAMPOLINES;
    atomic_store(&inject_memory, 5);
    pl_library *library = pl_library_new(&parts);
    CHECK(library != NULL);
    atomic_store(&inject_memory, -1);
    pl_library_release(library);
}

int main(void) {
    check_begin(0);
    RUN(test_what_it_is_made_of_is_copied);
    RUN(test_names_are_told_by_number);
    RUN(test_targets_are_set_taken_back_and_each_its_own);
    RUN(test_without_trampolines_there_are_no_targets);
    RUN(test_trampolines_of_one_serve_others);
    RUN(test_gone_is_for_good);
    RUN(test_last_one_frees_it);
    RUN(test_targets_go_from_thread_to_thread);
    RUN(test_last_of_many_threads_frees_it);
    RUN(test_lack_of_memory_is_told);
    return 0;
}
