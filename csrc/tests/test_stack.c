/* stack: the room that an entry needs, updated bounds of the first thread, unchecked unknown
 * stacks. */
#include "fake.h"

#include "stack.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { KIB = 1024 };

static _Thread_local int said_so; /* the text of the last error is that of a refusal */

static pl_error *error_new(const char *text) {
    size_t length = strlen(pl_stack_refusal());
    said_so = strlen(text) > length && strncmp(text, pl_stack_refusal(), length) == 0;
    return fake_error_new(text);
}

static int is_refused(int is_nested, int *has_text) {
    pl_error *error = pl_stack_check(is_nested);
    if (error == NULL) {
        return 0;
    }
    *has_text = said_so;
    pl_wasmtime.error_delete(error);
    return 1;
}

/* Checks with no more than `left` bytes of the stack left, so much that this frame fills the
 * rest. */
static int is_refused_with(size_t left, int is_nested, int *has_text) {
    size_t now = (uintptr_t)__builtin_frame_address(0) - pl_stack_end;
    volatile char filled[now - left];
    filled[0] = 1;
    return is_refused(is_nested, has_text) + (filled[0] != 1);
}

static void *ask(void *argument) {
    int has_text = 0;
    stack_t now;
    /* nothing is known yet: the slow path */
    CHECK(argument == NULL && pl_stack_is_short(PL_STACK_NESTED));
    CHECK(!is_refused(0, &has_text) && !is_refused(1, &has_text));
    CHECK(!pl_stack_is_short(PL_STACK_WHOLE) && pl_stack_end != 0);
    CHECK(sigaltstack(NULL, &now) == 0 && !(now.ss_flags & SS_DISABLE) &&
          now.ss_size >= PL_STACK_SIGNAL);
    CHECK(!is_refused_with(PL_STACK_WHOLE + 100 * KIB, 0, &has_text));
    CHECK(is_refused_with(PL_STACK_WHOLE - 100 * KIB, 0, &has_text) && has_text);
    CHECK(!is_refused_with(PL_STACK_WHOLE - 100 * KIB, 1, &has_text));
    has_text = 0;
    CHECK(is_refused_with(PL_STACK_NESTED - 8 * KIB, 1, &has_text) && has_text);
    CHECK(!is_refused(0, &has_text)); /* that was of the place, not of the thread */
    return NULL;
}

static void test_first_thread_has_what_the_limit_says_at_the_time(void) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit;
        int has_text = 0;
        getrlimit(RLIMIT_STACK, &limit);
        rlim_t before = limit.rlim_cur;
        limit.rlim_cur = 600 * KIB;
        setrlimit(RLIMIT_STACK, &limit);
        int small = is_refused(0, &has_text);
        limit.rlim_cur = before;
        setrlimit(RLIMIT_STACK, &limit);
        _exit(small && has_text && !is_refused(0, &has_text) ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_thread_may_enter_with_what_a_guest_may_use(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, PL_STACK_THREAD) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, &attributes, ask, NULL) == 0);
        thread_join(thread);
    }
    pthread_attr_destroy(&attributes);
    CHECK(fake_alive == 0);
}

/* In a process of its own, since its limit cannot be undone. */
static void test_stack_of_unknown_bounds_is_not_checked(void) {
    int has_text = 0;
    pl_stack_end = 0;
    CHECK(!pl_stack_is_short(PL_STACK_WHOLE) && !is_refused(0, &has_text));
    pl_stack_end = UINTPTR_MAX - PL_STACK_WHOLE;
    CHECK(!is_refused(0, &has_text) && pl_stack_end != 0); /* but that of this thread is known */
}

int main(void) {
    check_begin(0);
    fake_install();
    pl_wasmtime.error_new = error_new;
    RUN(test_first_thread_has_what_the_limit_says_at_the_time);
    RUN(test_thread_may_enter_with_what_a_guest_may_use);
    RUN(test_stack_of_unknown_bounds_is_not_checked);
    return 0;
}
