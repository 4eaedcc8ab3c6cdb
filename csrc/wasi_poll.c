/* wasi_poll: poll_oneoff. Discipline: that of wasi_impl.h. */
#include "wasi_impl.h"

/* A subscription of poll_oneoff. It is copied each time, because the guest may change it; only the
 * copy is used. */
struct subscription {
    uint64_t name;
    uint8_t tag;
    uint32_t clock, descriptor;
    uint64_t timeout;
    int is_absolute;
};

static struct subscription subscription_at(const uint8_t *at) {
    return (struct subscription){
        .name = load64(at),
        .tag = at[SUBSCRIPTION_TAG],
        .clock = load32(at + SUBSCRIPTION_CLOCK),
        .descriptor = load32(at + SUBSCRIPTION_DESCRIPTOR),
        .timeout = load64(at + SUBSCRIPTION_TIMEOUT),
        .is_absolute = at[SUBSCRIPTION_FLAGS] & FLAG_ABSOLUTE,
    };
}

/* Returns the remaining nanoseconds of a clock subscription, for a call that began at `started` on
 * pl_now's clock. */
static int64_t time_left(const pl_process *process, const struct subscription *wanted,
                         int64_t started) {
    uint64_t now = (uint64_t)(pl_now() - started);
    if (wanted->is_absolute) {
        pl_wasi_read_clock(process, wanted->clock, &now);
    }
    uint64_t left = wanted->timeout > now ? wanted->timeout - now : 0;
    return left > INT64_MAX ? INT64_MAX : (int64_t)left;
}

/* The state of a poll_oneoff. */
struct look {
    const pl_wasi_call *call;
    uint64_t subscriptions, events, count;
    int64_t started;
    struct pollfd polled[PL_WASI_STREAMS]; /* by stream; poll ignores a descriptor of -1 */
    int is_waiting;                        /* for a stream */
    int is_ready;                          /* a file: always ready */
    int64_t left;                          /* of the earliest clock, or -1 */
    uint32_t found;
};

static void put_event(struct look *look, const uint8_t *event) {
    uint8_t *memory = pl_memory_data(look->call->context, &look->call->memory);
    memcpy(memory + look->events + (uint64_t)look->found * EVENT_SIZE, event, EVENT_SIZE);
    look->found++;
}

/* Adds an event of the core itself. */
static void put(struct look *look, const struct subscription *wanted, uint64_t bytes,
                uint16_t flags) {
    uint8_t event[EVENT_SIZE] = {0};
    memcpy(event, &wanted->name, sizeof wanted->name);
    event[EVENT_TAG] = wanted->tag;
    memcpy(event + EVENT_BYTES, &bytes, sizeof bytes);
    memcpy(event + EVENT_FLAGS, &flags, sizeof flags);
    put_event(look, event);
}

/* Polls a descriptor that is not a stream with wasmtime. Returns an error number, 0 with the event,
 * or -1 if it has become a stream. Does not block; wasmtime gets a subscription that the guest
 * cannot change. */
static int32_t ask_of_file(const pl_wasi_call *call, const struct subscription *wanted,
                           uint8_t *event, pl_trap **trap) {
    enum { AT_EVENT = SUBSCRIPTION_SIZE + 16, AT_COUNT = AT_EVENT + EVENT_SIZE };
    pl_process *process = call->process;
    pl_value values[4] = {{.i64 = 0}, {.i64 = AT_EVENT}, {.i64 = 1}, {.i64 = AT_COUNT}};
    int32_t number = -1;
    pl_wasi_enter_private(call);
    if (pl_wasi_stream_at(process, wanted->descriptor) == NULL &&
        (number = pl_wasi_begin_file_call()) == 0) {
        uint8_t *memory = pl_memory_data(process->context, &process->private_memory);
        memset(memory, 0, AT_COUNT + 4);
        memcpy(memory, &wanted->name, sizeof wanted->name);
        memory[SUBSCRIPTION_TAG] = wanted->tag;
        memcpy(memory + SUBSCRIPTION_DESCRIPTOR, &wanted->descriptor, sizeof wanted->descriptor);
        *trap = pl_wasi_call_shim(process, process->private_functions + PL_WASI_PRIVATE_POLL,
                                  values, 4);
        number = values[0].i32;
        memcpy(event, memory + AT_EVENT, EVENT_SIZE);
    }
    pl_wasi_leave_private(call);
    return number;
}

/* Evaluates one subscription; after the wait with `put_events`. Returns an error number that ends
 * the call, or 0. */
static int32_t look_at(struct look *look, const struct subscription *wanted, int put_events,
                       pl_trap **trap) {
    const pl_wasi_call *call = look->call;
    pl_process *process = call->process;
    if (wanted->tag == TAG_CLOCK) {
        if (wanted->clock > CLOCK_MONOTONIC_ID) {
            return ERRNO_INVAL;
        }
        int64_t left = time_left(process, wanted, look->started);
        if (put_events && left == 0) {
            put(look, wanted, 0, 0);
        }
        look->left = look->left < 0 || left < look->left ? left : look->left;
        return 0;
    }
    if (wanted->tag > TAG_WRITE) {
        return ERRNO_INVAL;
    }
    struct stream *stream = pl_wasi_stream_at(process, wanted->descriptor);
    if (stream != NULL) {
        if ((wanted->tag == TAG_READ) != pl_wasi_is_input(process, stream)) {
            return ERRNO_BADF;
        }
        struct pollfd *polled = look->polled + (stream - process->streams);
        if (put_events && polled->revents != 0) {
            put(look, wanted, 1,
                (polled->revents & (POLLHUP | POLLIN)) == POLLHUP ? FLAG_HANGUP : 0);
        }
        polled->fd = stream->descriptor;
        polled->events = wanted->tag == TAG_READ ? POLLIN : POLLOUT;
        look->is_waiting = 1;
        return 0;
    }
    uint8_t event[EVENT_SIZE];
    int32_t number = ask_of_file(call, wanted, event, trap);
    look->is_ready = 1;
    if (number == 0 && *trap == NULL && put_events) {
        put_event(look, event);
    }
    return number < 0 ? 0 : number;
}

static int32_t look_at_all(struct look *look, int put_events, pl_trap **trap) {
    int32_t number = 0;
    look->is_waiting = look->is_ready = 0;
    look->left = -1;
    for (uint64_t i = 0; i < look->count && number == 0 && *trap == NULL; i++) {
        const uint8_t *memory = pl_memory_data(look->call->context, &look->call->memory);
        struct subscription wanted =
            subscription_at(memory + look->subscriptions + i * SUBSCRIPTION_SIZE);
        number = look_at(look, &wanted, put_events, trap);
    }
    return number;
}

pl_trap *pl_wasi_poll_all(const pl_wasi_call *call, pl_value *values) {
    struct look look = {.call = call,
                        .subscriptions = (uint32_t)values[0].i32,
                        .events = (uint32_t)values[1].i32,
                        .count = (uint32_t)values[2].i32,
                        .started = pl_now()};
    uint64_t result = (uint32_t)values[3].i32, size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (look.count == 0 || look.count > PL_WASI_MOST) {
        values[0].i64 = ERRNO_INVAL;
        return NULL;
    }
    if (!pl_wasi_is_pointer(call->process, look.subscriptions, look.count * SUBSCRIPTION_SIZE, 8,
                            size, values, &trap) ||
        !pl_wasi_is_pointer(call->process, look.events, look.count * EVENT_SIZE, 8, size, values,
                            &trap) ||
        !pl_wasi_is_pointer(call->process, result, 4, 4, size, values, &trap)) {
        return trap;
    }
    /* again after a wait without events: another thread may have consumed the input, or changed
     * the subscriptions */
    while (look.found == 0) {
        for (int i = 0; i < PL_WASI_STREAMS; i++) {
            look.polled[i] = (struct pollfd){.fd = -1};
        }
        int32_t number = look_at_all(&look, 0, &trap);
        if (number == 0 && trap == NULL) {
            int64_t deadline = look.is_ready ? pl_now() : pl_deadline(look.left);
            int stop = look.is_waiting
                           ? pl_wasi_wait_for(call, look.polled, PL_WASI_STREAMS, deadline) < 0
                           : pl_wasi_sleep_until(call, deadline) < 0;
            if (stop) {
                return pl_trap_of("interrupted");
            }
            number = look_at_all(&look, 1, &trap);
        }
        if (number != 0 || trap != NULL) {
            values[0].i64 = number;
            return trap;
        }
        if (look.found == 0 && look.is_ready && pl_wasi_must_stop(call)) {
            return pl_trap_of("interrupted");
        }
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &look.found, sizeof look.found);
    values[0].i64 = 0;
    return NULL;
}
