/* atomics: results, traps and group states of wait and wake calls, against the fake wasmtime
 * below. */
#include "check.h"

#include "api.h"
#include "atomics.h"
#include "epoch.h"
#include "rendezvous.h"

#include <string.h>

enum {
    SIZE = 65536,
    MILLISECOND = 1000000,
    CELL = 4096,
    OTHER = 8192,
    WOKEN = 300,
    TIMEOUT = 512,
    TRAP = 0x5000
};

static pl_context *const context = (pl_context *)0x1000;
static _Alignas(8) uint8_t memory[SIZE];
static char trap_text[80];
static pl_trap *(*registered)(void *, pl_caller *, pl_value *, size_t);

/* The fake wasmtime: one memory, of either kind. A trap with a code is the code. */

static uint8_t *memory_data(pl_context *at, const pl_memory *handle) {
    CHECK(at == context && handle->index == 3);
    return memory;
}

static size_t memory_data_size(pl_context *at, const pl_memory *handle) {
    CHECK(at == context && handle->index == 3);
    return SIZE;
}

static uint8_t *sharedmemory_data(const pl_shared_memory *handle) {
    CHECK(handle == (const pl_shared_memory *)0x7000);
    return memory;
}

static size_t sharedmemory_data_size(const pl_shared_memory *handle) {
    CHECK(handle == (const pl_shared_memory *)0x7000);
    return SIZE;
}

static pl_trap *trap_new(const char *text, size_t length) {
    CHECK(length < sizeof trap_text);
    memcpy(trap_text, text, length);
    trap_text[length] = '\0';
    return (pl_trap *)TRAP;
}

static pl_trap *trap_new_code(uint8_t code) { return (pl_trap *)(uintptr_t)code; }

static void func_new_unchecked(pl_context *at, const pl_type *type,
                               pl_trap *(*callback)(void *, pl_caller *, pl_value *, size_t),
                               void *environment, void (*finalizer)(void *), pl_func *result) {
    CHECK(at == context && type == (pl_type *)0x4000 && finalizer == NULL);
    registered = callback;
    result->store = 7;
    result->body = environment;
}

static void set(const char *name, void (*function)(void)) {
    for (size_t i = 0; pl_api_name(i); i++) {
        if (strcmp(pl_api_name(i), name) == 0) {
            void *address;
            memcpy(&address, &function, sizeof address);
            CHECK(pl_api_set(i, address) == 0);
            return;
        }
    }
    CHECK(!"a name that the table has");
}

#define SET(name) set("wasmtime_" #name, (void (*)(void))name)

/* The program: one group that runs guest code. */

static const pl_extern shared_memory = {.kind = PL_EXTERN_SHARED_MEMORY,
                                        .of = {.shared_memory = (pl_shared_memory *)0x7000}};
static const pl_extern own_memory = {.kind = PL_EXTERN_MEMORY, .of = {.handle = {1, 3, 0}}};
static pl_shared *shared;
static pl_group *group;
static pl_atomics_call call;
static int (*on_replay)(void);

static int replays;

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    CHECK(handle == 3 && from <= to);
    replays++;
    return on_replay != NULL ? on_replay() : 0;
}

static int state(void) { return pl_safepoint_state(pl_group_safepoint(group)); }

static void set_up(void) {
    memset(memory, 0, sizeof memory);
    shared = pl_shared_new();
    group = pl_group_new(shared, 3, replay, NULL);
    call = (pl_atomics_call){.group = group, .context = context, .memory = shared_memory};
    pl_safepoint_run(pl_group_safepoint(group));
    on_replay = NULL;
    replays = 0;
}

static void tear_down(void) {
    pl_group_free(group);
    pl_shared_free(shared);
}

/* A call of the guest's. `first`, a 64-bit number, is there in full. Returns the trap, as a
 * number, or 0. */
static pl_value values[4];

static uintptr_t enter(int kind, int64_t first, int64_t second, int64_t third, int32_t fourth) {
    values[0].i64 = first;
    values[1].i64 = second;
    values[2].i64 = third;
    values[3].i32 = fourth;
    call.kind = kind;
    pl_atomics_new((pl_type *)0x4000, &call);
    CHECK(call.self.store == 7 && call.self.body == &call);
    return (uintptr_t)registered(&call, NULL, values, 4);
}

/* What the result is, for a call that does not trap. */
static int64_t result_of(int kind, int64_t first, int64_t second, int64_t third, int32_t fourth) {
    CHECK(enter(kind, first, second, third, fourth) == 0 && state() == PL_RUNNING);
    return values[0].i64;
}

static pl_futex *the_futex(void) { return pl_shared_futex(shared); }

static void store64(uint64_t address, uint64_t value) {
    memcpy(memory + address, &value, sizeof value);
}

/* The instructions. */

static void test_bad_addresses_trap_as_the_instructions_do(void) {
    enum { BOUNDS = 1, UNALIGNED = 2, NOT_SHARED = 12 };
    static const struct {
        int64_t address;
        uintptr_t narrow, wide;
    } cases[] = {
        {0, 0, 0},
        {1, UNALIGNED, UNALIGNED},
        {4, 0, UNALIGNED},
        {SIZE - 8, 0, 0},
        {SIZE - 4, 0, UNALIGNED},
        {SIZE - 2, UNALIGNED, UNALIGNED}, /* which comes before the bounds */
        {SIZE, BOUNDS, BOUNDS},
        {INT64_C(0x100000000), BOUNDS, BOUNDS},
        {-8, BOUNDS, BOUNDS},
        {-1, UNALIGNED, UNALIGNED},
    };
    for (int is_shared = 0; is_shared < 2; is_shared++) {
        set_up();
        call.memory = is_shared ? shared_memory : own_memory;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            uintptr_t good = is_shared ? 0 : NOT_SHARED;
            CHECK(enter(PL_ATOMICS_WAIT32, cases[i].address, 1, -1, 0) ==
                  (cases[i].narrow ? cases[i].narrow : good));
            CHECK(enter(PL_ATOMICS_WAIT64, cases[i].address, 1, -1, 0) ==
                  (cases[i].wide ? cases[i].wide : good));
            CHECK(enter(PL_ATOMICS_NOTIFY, cases[i].address, 1, 0, 0) == cases[i].narrow);
            CHECK(cases[i].narrow || values[0].i64 == 0);
            CHECK(state() == PL_RUNNING);
        }
        tear_down();
    }
}

static void test_call_before_there_is_a_memory_traps(void) {
    set_up();
    memset(&call.memory, 0, sizeof call.memory);
    for (int kind = PL_ATOMICS_WAIT32; kind <= PL_ATOMICS_FUTEX_WAKE_ALL; kind++) {
        CHECK(enter(kind, 0, 0, 0, 0) == TRAP && strstr(trap_text, "before the memory") != NULL);
    }
    tear_down();
}

static void test_wait_compares_and_takes_its_time(void) {
    set_up();
    int64_t wide = INT64_C(-4294967291); /* ffffffff 00000005 */
    store64(CELL, (uint64_t)wide);
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 6, -1, 0) == PL_WAITED_NOT_EQUAL);
    /* an i32 has 32 bits */
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, wide, 0, 0) == PL_WAITED_TIMED_OUT);
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL + 4, UINT32_MAX, 0, 0) == PL_WAITED_TIMED_OUT);
    CHECK(result_of(PL_ATOMICS_WAIT64, CELL, 5, -1, 0) == PL_WAITED_NOT_EQUAL);
    CHECK(result_of(PL_ATOMICS_WAIT64, CELL, wide, 0, 0) == PL_WAITED_TIMED_OUT);
    int64_t before = pl_now();
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 5, 2 * MILLISECOND, 0) == PL_WAITED_TIMED_OUT);
    CHECK(pl_now() - before >= 2 * MILLISECOND);
    tear_down();
}

/* A thread of the guest's that waits, once. */

struct guest {
    int kind;
    int64_t arguments[3];
    uintptr_t trap;
    int64_t result;
    pthread_t thread;
};

static void *guest(void *argument) {
    struct guest *self = argument;
    self->trap =
        enter(self->kind, self->arguments[0], self->arguments[1], self->arguments[2], WOKEN);
    self->result = values[0].i64;
    return NULL;
}

static void start(struct guest *self) {
    self->thread = thread_start(guest, self);
    AWAIT(pl_futex_waiters(the_futex(), (uint64_t)self->arguments[0]) == 1);
    CHECK(state() == PL_PARKED);
}

static uint32_t wake_by(int kind) {
    static pl_atomics_call other; /* another group's */
    pl_value arguments[3] = {{.i64 = CELL}, {.i64 = kind == PL_ATOMICS_NOTIFY ? 1 : OTHER}};
    other = call;
    other.kind = kind;
    other.group = pl_group_new(shared, 3, replay, NULL);
    CHECK(registered(&other, NULL, arguments, 2) == NULL);
    pl_group_free(other.group);
    return kind == PL_ATOMICS_NOTIFY ? (uint32_t)arguments[0].i32 : memory[OTHER];
}

static void test_every_wait_is_woken_by_every_wake(void) {
    static const int waits[] = {PL_ATOMICS_WAIT32, PL_ATOMICS_WAIT64, PL_ATOMICS_FUTEX_WAIT};
    static const int wakes[] = {PL_ATOMICS_NOTIFY, PL_ATOMICS_FUTEX_WAKE,
                                PL_ATOMICS_FUTEX_WAKE_ALL};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            struct guest self = {
                .kind = waits[i],
                .arguments = {CELL, 0, waits[i] == PL_ATOMICS_FUTEX_WAIT ? TIMEOUT : -1}};
            set_up();
            start(&self);
            CHECK(wake_by(wakes[j]) == 1 && pl_futex_waiters(the_futex(), CELL) == 0);
            /* WASIX does not say whether anybody waited */
            CHECK(wake_by(wakes[j]) == (wakes[j] != PL_ATOMICS_NOTIFY));
            thread_join(self.thread);
            CHECK(self.trap == 0 && self.result == 0 && state() == PL_RUNNING);
            CHECK(memory[WOKEN] == (waits[i] == PL_ATOMICS_FUTEX_WAIT));
            tear_down();
        }
    }
}

static void *sleep_on_cell(void *unused) {
    pl_wait_options until = {.timeout = -1};
    CHECK(pl_futex_wait32(the_futex(), CELL, memory + CELL, 0, &until) == PL_WAITED_WOKEN);
    return unused;
}

static void test_as_many_are_woken_as_is_said(void) {
    pthread_t threads[6];
    set_up();
    for (int i = 0; i < 6; i++) {
        threads[i] = thread_start(sleep_on_cell, NULL);
    }
    AWAIT(pl_futex_waiters(the_futex(), CELL) == 6);
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, INT64_C(0x700000000), 0, 0) == 0); /* the i32 is 0 */
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, 2, 0, 0) == 2);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAKE, CELL, WOKEN, 0, 0) == 0 && memory[WOKEN] == 1);
    CHECK(pl_futex_waiters(the_futex(), CELL) == 3);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAKE_ALL, CELL, WOKEN, 0, 0) == 0 && memory[WOKEN] == 1);
    CHECK(pl_futex_waiters(the_futex(), CELL) == 0);
    for (int i = 0; i < 6; i++) {
        thread_join(threads[i]);
        threads[i] = thread_start(sleep_on_cell, NULL);
    }
    AWAIT(pl_futex_waiters(the_futex(), CELL) == 6);
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, -1, 0, 0) == 6); /* all */
    for (int i = 0; i < 6; i++) {
        thread_join(threads[i]);
    }
    tear_down();
}

/* The rendezvous. */

/* Another group carries out an operation; it would wait for ever for one that runs. */
static void lead(void) {
    uintptr_t late;
    CHECK(pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED);
    pl_group *leader = pl_group_new(shared, 3, replay, NULL);
    CHECK(pl_lead_open(leader) != 0 && pl_lead_meet(leader, -1, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(leader) != 0 && pl_lead_finish(leader) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED);
    pl_group_free(leader);
    pl_rwlock_release_write(pl_shared_lock(shared));
}

static void test_waiting_group_holds_nobody_up_and_replays_before_it_goes_on(void) {
    static const int waits[] = {PL_ATOMICS_WAIT32, PL_ATOMICS_WAIT64, PL_ATOMICS_FUTEX_WAIT};
    for (int i = 0; i < 3; i++) {
        struct guest self = {
            .kind = waits[i],
            .arguments = {CELL, 0, waits[i] == PL_ATOMICS_FUTEX_WAIT ? TIMEOUT : -1}};
        set_up();
        start(&self);
        lead();
        CHECK(replays == 0);
        CHECK(pl_futex_wake(the_futex(), CELL, 1) == 1);
        thread_join(self.thread);
        CHECK(self.trap == 0 && replays == 1 && state() == PL_RUNNING);
        tear_down();
    }
}

static void test_wake_is_a_safepoint(void) {
    static const int wakes[] = {PL_ATOMICS_NOTIFY, PL_ATOMICS_FUTEX_WAKE,
                                PL_ATOMICS_FUTEX_WAKE_ALL};
    for (int i = 0; i < 3; i++) {
        set_up();
        pl_safepoint_park(pl_group_safepoint(group));
        lead();
        /* it is behind now, as if the leader had come during its run */
        pl_safepoint_run(pl_group_safepoint(group));
        CHECK(result_of(wakes[i], CELL, wakes[i] == PL_ATOMICS_NOTIFY ? 1 : WOKEN, 0, 0) == 0 &&
              replays == 1);
        pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
        CHECK(enter(wakes[i], CELL, WOKEN, 0, 0) == TRAP &&
              strcmp(trap_text, "the guest was stopped") == 0);
        tear_down();
    }
}

static void test_cancellation_ends_the_wait_with_a_trap(void) {
    for (int i = 0; i < 2; i++) {
        struct guest self = {.kind = i ? PL_ATOMICS_FUTEX_WAIT : PL_ATOMICS_WAIT32,
                             .arguments = {CELL, 0, i ? TIMEOUT : -1}};
        set_up();
        start(&self);
        memory[WOKEN] = 9;
        pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
        thread_join(self.thread);
        CHECK(self.trap == TRAP && strcmp(trap_text, "the guest was stopped") == 0 &&
              memory[WOKEN] == 9);
        tear_down();
    }
}

/* Guest code that a replay runs is not stopped at a safepoint; so the wait itself must not let
 * it go on. */
static int wait_in_replay(void) {
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(enter(PL_ATOMICS_WAIT32, CELL, 0, -1, 0) == TRAP &&
          strcmp(trap_text, "the guest was stopped") == 0);
    return 1;
}

static void test_cancelled_wait_traps_within_a_replay_too(void) {
    set_up();
    pl_safepoint_park(pl_group_safepoint(group));
    lead();
    on_replay = wait_in_replay;
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(pl_group_safepoint_poll(group) == PL_CANCELLED && replays == 1);
    tear_down();
}

static void test_nudge_of_the_group_ends_its_wait(void) {
    struct guest self = {.kind = PL_ATOMICS_FUTEX_WAIT, .arguments = {CELL, 0, TIMEOUT}};
    set_up();
    start(&self);
    pl_group *other = pl_group_new(shared, 3, replay, NULL);
    pl_futex_nudge(the_futex(), pl_group_nudge(other));
    CHECK(pl_futex_waiters(the_futex(), CELL) == 1);
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    thread_join(self.thread);
    CHECK(self.trap == 0 && self.result == 0 && memory[WOKEN] == 1);
    pl_group_free(other);
    tear_down();
}

static int deliveries, delivery_result, state_delivered;
static pl_trap *(*in_delivery)(void);

static int deliver(uintptr_t handle) {
    CHECK(handle == 8);
    deliveries++;
    state_delivered = state();
    if (in_delivery != NULL) {
        CHECK(in_delivery() == NULL);
    }
    return delivery_result;
}

static void set_up_delivery(int answer) {
    set_up();
    deliveries = 0;
    delivery_result = answer;
    in_delivery = NULL;
    pl_group_on_nudge(group, deliver, 8);
}

static void test_group_with_a_handler_waits_on_after_a_nudge(void) {
    static const int waits[] = {PL_ATOMICS_WAIT32, PL_ATOMICS_WAIT64, PL_ATOMICS_FUTEX_WAIT};
    for (int i = 0; i < 3; i++) {
        struct guest self = {
            .kind = waits[i],
            .arguments = {CELL, 0, waits[i] == PL_ATOMICS_FUTEX_WAIT ? TIMEOUT : -1}};
        set_up_delivery(0);
        start(&self);
        for (int times = 1; times <= 2; times++) {
            pl_futex_nudge(the_futex(), pl_group_nudge(group));
            AWAIT(pl_flag_load(pl_group_nudge(group), PL_SEQ_CST) == 0);
        }
        CHECK(pl_futex_waiters(the_futex(), CELL) == 1);
        CHECK(pl_futex_wake(the_futex(), CELL, 1) == 1);
        thread_join(self.thread);
        CHECK(self.trap == 0 && self.result == 0 && deliveries >= 1 &&
              state_delivered == PL_PARKED);
        tear_down();
    }
}

static void test_handler_may_stop_the_group(void) {
    struct guest self = {.kind = PL_ATOMICS_WAIT32, .arguments = {CELL, 0, -1}};
    set_up_delivery(1);
    start(&self);
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    thread_join(self.thread);
    CHECK(self.trap == TRAP && strcmp(trap_text, "interrupted") == 0 &&
          pl_futex_waiters(the_futex(), CELL) == 0);
    tear_down();
}

static void test_nudge_of_a_running_group_is_delivered_at_its_next_host_call(void) {
    set_up_delivery(0);
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    CHECK(pl_group_is_nudged(group) && deliveries == 0);
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, 1, 0, 0) == 0 && deliveries == 1 &&
          state_delivered == PL_PARKED);
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, 1, 0, 0) == 0 && deliveries == 1);
    delivery_result = PL_DELIVER_LATER; /* and again, until it can deliver; but a wait goes on */
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 0, MILLISECOND, 0) == PL_WAITED_TIMED_OUT &&
          deliveries == 3);
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 0, MILLISECOND, 0) == PL_WAITED_TIMED_OUT &&
          deliveries == 4);
    delivery_result = 0;
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, 1, 0, 0) == 0 && deliveries == 5 &&
          !pl_group_is_nudged(group));
    delivery_result = 1;
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    CHECK(enter(PL_ATOMICS_NOTIFY, CELL, 1, 0, 0) == TRAP &&
          strcmp(trap_text, "interrupted") == 0 && state() == PL_RUNNING);
    tear_down();
}

static pl_trap *wait_in_delivery(void) { /* a handler of the guest's, which waits, too */
    if (deliveries == 1) {
        pl_safepoint_run(pl_group_safepoint(group));
        pl_futex_nudge(the_futex(), pl_group_nudge(group));
        CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 0, MILLISECOND, 0) == PL_WAITED_TIMED_OUT);
        pl_safepoint_park(pl_group_safepoint(group));
    }
    return NULL;
}

static void test_handler_may_wait_and_deliver(void) {
    set_up_delivery(0);
    in_delivery = wait_in_delivery;
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 0, MILLISECOND, 0) == PL_WAITED_TIMED_OUT &&
          deliveries == 2);
    tear_down();
}

static int nudge_in_replay(void) {
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    CHECK(pl_group_deliver(group) == 0 && deliveries == 0);
    return 0;
}

static void test_nothing_is_delivered_within_a_replay(void) {
    set_up_delivery(0);
    pl_safepoint_park(pl_group_safepoint(group));
    lead();
    on_replay = nudge_in_replay;
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED && replays == 1 &&
          pl_group_is_nudged(group));
    CHECK(result_of(PL_ATOMICS_NOTIFY, CELL, 1, 0, 0) == 0 && deliveries == 1);
    tear_down();
}

static void test_sleep_takes_its_time(void) {
    set_up_delivery(0);
    memset(&call.memory, 0, sizeof call.memory);
    int64_t before = pl_now();
    CHECK(result_of(PL_ATOMICS_SLEEP, 0, 0, 0, 0) == 0);
    CHECK(result_of(PL_ATOMICS_SLEEP, 2 * MILLISECOND, 0, 0, 0) == 0 &&
          pl_now() - before >= 2 * MILLISECOND);
    pl_futex_nudge(the_futex(), pl_group_nudge(group));
    before = pl_now();
    CHECK(result_of(PL_ATOMICS_SLEEP, 2 * MILLISECOND, 0, 0, 0) == 0 &&
          pl_now() - before >= 2 * MILLISECOND && deliveries == 1);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(enter(PL_ATOMICS_SLEEP, -1, 0, 0, 0) == TRAP &&
          strcmp(trap_text, "the guest was stopped") == 0);
    tear_down();
}

static int checks, state_inside;

static int stop(uintptr_t handle) {
    CHECK(handle == 6);
    checks++;
    state_inside = state();
    return 1;
}

static void *wait_elsewhere(void *unused) {
    CHECK(result_of(PL_ATOMICS_WAIT32, CELL, 0, PL_SLICE + MILLISECOND, 0) == PL_WAITED_TIMED_OUT);
    return unused;
}

static void test_only_the_main_thread_is_checked(void) {
    pl_epoch_main_thread((uintptr_t)pthread_self());
    set_up();
    call.check = stop;
    call.handle = 6;
    thread_join(thread_start(wait_elsewhere, NULL));
    CHECK(checks == 0);
    CHECK(enter(PL_ATOMICS_WAIT32, CELL, 0, -1, 0) == TRAP &&
          strcmp(trap_text, "interrupted") == 0);
    CHECK(checks == 1 && state_inside == PL_PARKED && state() == PL_RUNNING);
    CHECK(pl_cancel_cause(pl_shared_cancel(shared)) == 0); /* the program goes on */
    tear_down();
}

/* WASIX. */

enum { SUCCESS = 0, MEMVIOLATION = 78 };

static void test_wasix_wait_says_whether_it_was_woken(void) {
    set_up();
    memory[CELL] = 5;
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL, 6, TIMEOUT, WOKEN) == SUCCESS &&
          memory[WOKEN] == 1);
    memory[TIMEOUT] = 1;
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL, 5, TIMEOUT, WOKEN) == SUCCESS &&
          memory[WOKEN] == 0);
    store64(TIMEOUT + 8, 2 * MILLISECOND);
    memory[WOKEN] = 9;
    int64_t before = pl_now();
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL, 5, TIMEOUT, WOKEN) == SUCCESS &&
          memory[WOKEN] == 0);
    CHECK(pl_now() - before >= 2 * MILLISECOND);
    tear_down();
}

static void test_wasix_time_out_may_be_longer_than_a_number_with_a_sign(void) {
    struct guest self = {.kind = PL_ATOMICS_FUTEX_WAIT, .arguments = {CELL, 0, TIMEOUT}};
    /* none; some, all of it; and a tag that is neither, which is some */
    for (int tag = 0; tag < 3; tag++) {
        set_up();
        memory[TIMEOUT] = (uint8_t)tag;
        store64(TIMEOUT + 8, tag == 0 ? 0 : UINT64_MAX);
        start(&self);
        CHECK(pl_futex_wake(the_futex(), CELL, 1) == 1);
        thread_join(self.thread);
        CHECK(self.result == SUCCESS && memory[WOKEN] == 1);
        tear_down();
    }
}

static void test_wasix_pointers_are_looked_at_first(void) {
    set_up();
    memory[TIMEOUT] = 1;
    store64(SIZE - 16, 1);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, -1, 0, TIMEOUT, WOKEN) == MEMVIOLATION);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, SIZE, 0, TIMEOUT, WOKEN) == MEMVIOLATION);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL, 0, SIZE - 15, WOKEN) == MEMVIOLATION);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL, 0, TIMEOUT, SIZE) == MEMVIOLATION);
    CHECK(memory[WOKEN] == 0);
    memory[CELL + 4] = 1; /* a word that is not aligned */
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL + 2, 0, TIMEOUT, WOKEN) == SUCCESS &&
          memory[WOKEN] == 1);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, CELL + 2, 0x10000, TIMEOUT, WOKEN) == SUCCESS &&
          memory[WOKEN] == 0);
    CHECK(result_of(PL_ATOMICS_FUTEX_WAIT, SIZE - 4, 0, SIZE - 16, SIZE - 1) == SUCCESS);
    for (int kind = PL_ATOMICS_FUTEX_WAKE; kind <= PL_ATOMICS_FUTEX_WAKE_ALL; kind++) {
        CHECK(result_of(kind, CELL, SIZE, 0, 0) == MEMVIOLATION &&
              result_of(kind, CELL, -1, 0, 0) == MEMVIOLATION);
        memory[SIZE - 1] = 9;
        CHECK(result_of(kind, CELL, SIZE - 1, 0, 0) == SUCCESS && memory[SIZE - 1] == 1);
    }
    tear_down();
}

int main(void) {
    check_begin(0);
    SET(memory_data);
    SET(memory_data_size);
    SET(sharedmemory_data);
    SET(sharedmemory_data_size);
    SET(trap_new);
    SET(trap_new_code);
    SET(func_new_unchecked);
    RUN(test_bad_addresses_trap_as_the_instructions_do);
    RUN(test_call_before_there_is_a_memory_traps);
    RUN(test_wait_compares_and_takes_its_time);
    RUN(test_every_wait_is_woken_by_every_wake);
    RUN(test_as_many_are_woken_as_is_said);
    RUN(test_waiting_group_holds_nobody_up_and_replays_before_it_goes_on);
    RUN(test_wake_is_a_safepoint);
    RUN(test_cancellation_ends_the_wait_with_a_trap);
    RUN(test_cancelled_wait_traps_within_a_replay_too);
    RUN(test_nudge_of_the_group_ends_its_wait);
    RUN(test_group_with_a_handler_waits_on_after_a_nudge);
    RUN(test_handler_may_stop_the_group);
    RUN(test_nudge_of_a_running_group_is_delivered_at_its_next_host_call);
    RUN(test_handler_may_wait_and_deliver);
    RUN(test_nothing_is_delivered_within_a_replay);
    RUN(test_sleep_takes_its_time);
    RUN(test_only_the_main_thread_is_checked);
    RUN(test_wasix_wait_says_whether_it_was_woken);
    RUN(test_wasix_time_out_may_be_longer_than_a_number_with_a_sign);
    RUN(test_wasix_pointers_are_looked_at_first);
    return 0;
}
