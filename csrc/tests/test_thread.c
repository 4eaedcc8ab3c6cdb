/* thread: the group and the arguments of a new thread, its exit, and a thread that cannot start. */
#include "fake.h"

#include "thread.h"

enum { GROUP = 40, HANDLE = 77, KEY = 99, SECOND = 1000000000 };

static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;
static pl_library *library;
static fake_module a = {.name = "A",
                        .exports = {{"f", PL_EXTERN_FUNC}, {"data", PL_EXTERN_GLOBAL}}};

static pl_thread thread;
static atomic_int ended, wanted;
static uint32_t done;
static pl_group *group_inside, *group_at_end;
static uintptr_t handle_inside;
static pthread_t thread_inside, thread_at_end;
static int state_inside;
static int32_t arguments[2];
static size_t argument_count;

static int guest(const char *name, pl_value *values, size_t count) {
    CHECK(strcmp(name, "A.f") == 0);
    thread_inside = pthread_self();
    group_inside = pl_group_of_thread();
    handle_inside = pl_handle_of_thread();
    state_inside = pl_safepoint_state(pl_group_safepoint(group));
    argument_count = count;
    arguments[0] = values[0].i32;
    arguments[1] = count > 1 ? values[1].i32 : 0;
    values[0].i32 = 9;
    return wanted;
}

static int end(uintptr_t handle) {
    CHECK(handle == HANDLE);
    thread_at_end = pthread_self();
    group_at_end = pl_group_of_thread();
    atomic_store(&ended, 1);
    return 0;
}

static int no_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    return handle == 0 || from > to;
}

static int no_host(uintptr_t handle, pl_value *values, size_t count, char *message,
                   size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static void set_up(void) {
    fake_reset(4);
    on_call = guest;
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, no_replay, NULL);
    instances = pl_instances_new(group, context, NULL, no_host, NULL, GROUP);
    library = fake_library(&a, &(pl_library_parts){.place = 0});
    CHECK(pl_instances_load(instances, library, 0, 0) == 0);
    atomic_store(&ended, 0);
    atomic_store(&wanted, PL_OK);
    done = 0;
    thread = (pl_thread){.instances = instances,
                         .count = 2,
                         .on_exit = end,
                         .exited = {NULL, HANDLE},
                         .done = &done,
                         .key = KEY};
    thread.values[0].i64 = 5;
    thread.values[1].i64 = -6;
}

static void tear_down(void) {
    fake_free(thread.failure.trap);
    fake_free(thread.failure.error);
    pl_library_release(library);
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

static void test_function_is_called_on_a_thread_of_the_groups(void) {
    set_up();
    CHECK(pl_group_of_thread() == NULL && pl_handle_of_thread() == 0);
    CHECK(pl_thread_start(&thread, library, 0) == 0);
    AWAIT(pl_shared_exited_count(shared) == 1);
    CHECK(!atomic_load(&ended) && pl_shared_take_exited(shared) == HANDLE &&
          pl_shared_take_exited(shared) == 0);
    CHECK(!pthread_equal(thread_inside, pthread_self()) &&
          atomic_load((_Atomic uint32_t *)&done) == 1);
    CHECK(group_inside == group && handle_inside == GROUP && state_inside == PL_RUNNING);
    CHECK(argument_count == 2 && arguments[0] == 5 && arguments[1] == -6);
    CHECK(thread.status == PL_OK && thread.values[0].i32 == 9 && thread.failure.trap == NULL &&
          thread.failure.error == NULL);
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_DEAD);
    CHECK(pl_group_of_thread() == NULL); /* this thread still has no group */
    tear_down();
}

static void test_who_waits_for_the_end_is_woken(void) {
    set_up();
    pl_wait_options forever = {.timeout = -1};
    CHECK(pl_thread_start(&thread, library, 0) == 0);
    while (atomic_load((_Atomic uint32_t *)&done) == 0) {
        CHECK(pl_futex_wait32(pl_shared_futex(shared), KEY, &done, 0, &forever) >= 0);
    }
    while (pl_shared_take_exited(shared) != HANDLE) {
        pl_shared_wait_exited(shared, 10ll * SECOND);
    }
    tear_down();
}

static void test_end_is_told_where_it_cannot_be_left(void) {
    pl_exited others[PL_EXITED_MOST];
    for (int closed = 0; closed <= 1; closed++) {
        set_up();
        for (uintptr_t i = 0; !closed && i < PL_EXITED_MOST; i++) {
            others[i].handle = i + 1;
            CHECK(pl_shared_add_exited(shared, others + i));
        }
        if (closed) {
            pl_shared_close_exited(shared);
        }
        CHECK(pl_thread_start(&thread, library, 0) == 0);
        AWAIT(atomic_load(&ended));
        CHECK(pthread_equal(thread_inside, thread_at_end) && group_at_end == NULL && done == 1);
        CHECK(pl_shared_exited_count(shared) == (closed ? 0 : PL_EXITED_MOST));
        for (uintptr_t i = PL_EXITED_MOST; !closed && i > 0; i--) {
            CHECK(pl_shared_take_exited(shared) == i);
        }
        CHECK(pl_shared_take_exited(shared) == 0);
        tear_down();
    }
}

static void test_waiting_for_ends_ends_when_told(void) {
    set_up();
    int64_t began = pl_now();
    pl_shared_wait_exited(shared, 1000000);
    CHECK(pl_now() - began >= 1000000);
    pl_exited one = {NULL, 1};
    CHECK(pl_shared_add_exited(shared, &one));
    pl_shared_wait_exited(shared, -1);
    CHECK(pl_shared_take_exited(shared) == 1);
    tear_down();
}

static void test_end_is_told_of_a_failure(void) {
    for (int each = PL_TRAP; each <= PL_ERROR; each++) {
        set_up();
        atomic_store(&wanted, each);
        CHECK(pl_thread_start(&thread, library, 0) == 0);
        AWAIT(atomic_load(&ended));
        CHECK(thread.status == each && (thread.failure.trap != NULL) == (each == PL_TRAP));
        CHECK((thread.failure.error != NULL) == (each == PL_ERROR));
        tear_down();
    }
}

static void test_cancelled_linker_calls_no_guest(void) {
    set_up();
    argument_count = 0;
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_thread_start(&thread, library, 0) == 0);
    AWAIT(atomic_load(&ended));
    CHECK(thread.status == PL_ABORTED && argument_count == 0 && thread.failure.trap == NULL &&
          thread.failure.error == NULL);
    tear_down();
}

static void test_function_that_is_not_there_starts_no_thread(void) {
    set_up();
    CHECK(pl_thread_start(&thread, library, 1) == PL_THREAD_LOST); /* no function */
    CHECK(pl_thread_start(&thread, library, 2) == PL_THREAD_LOST);
    pl_instances_drop(instances, library);
    CHECK(pl_thread_start(&thread, library, 0) == PL_THREAD_LOST);
    CHECK(!atomic_load(&ended));
    tear_down();
}

static void test_threads_own_group_can_be_set(void) {
    set_up();
    pl_group_enter_thread(group);
    CHECK(pl_group_of_thread() == group && pl_handle_of_thread() == GROUP);
    pl_group_enter_thread(NULL);
    CHECK(pl_group_of_thread() == NULL && pl_handle_of_thread() == 0);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_function_is_called_on_a_thread_of_the_groups);
    RUN(test_who_waits_for_the_end_is_woken);
    RUN(test_end_is_told_where_it_cannot_be_left);
    RUN(test_waiting_for_ends_ends_when_told);
    RUN(test_end_is_told_of_a_failure);
    RUN(test_cancelled_linker_calls_no_guest);
    RUN(test_function_that_is_not_there_starts_no_thread);
    RUN(test_threads_own_group_can_be_set);
    return 0;
}
