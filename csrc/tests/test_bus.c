/* bus: numbers, changing receivers, and the depth of one message for receivers that have to
 * acknowledge. */
#include "check.h"
#include "made.h"

#include "bus.h"

enum { MESSAGES = 20000, RECEIVERS = 3 };

static void test_messages_are_numbered_from_one(void) {
    pl_bus *bus = new_bus();
    CHECK(pl_bus_sent(bus) == 0 && pl_bus_receivers(bus) == 0);
    for (uint64_t number = 1; number <= 5; number++) {
        CHECK(pl_bus_try_broadcast(bus) == number);
        CHECK(pl_bus_sent(bus) == number);
    }
    free_bus(bus);
}

static void test_receiver_gets_what_is_sent_after_it_came(void) {
    pl_bus *bus = new_bus();
    pl_receiver *early = subscribe(bus);
    CHECK(pl_receiver_taken(early) == 0);
    CHECK(pl_bus_try_broadcast(bus) == 1 && pl_bus_try_broadcast(bus) == 2);
    pl_receiver *late = subscribe(bus);
    CHECK(pl_receiver_taken(early) == 0 && pl_receiver_taken(late) == 2);
    CHECK(pl_bus_try_broadcast(bus) == 3);
    pl_receiver_take(early, 3); /* all of them at once, from the log */
    CHECK(pl_receiver_taken(early) == 3 && pl_receiver_taken(late) == 2);
    free_bus(bus);
}

static void test_bus_is_one_message_deep_for_who_owes_an_answer(void) {
    pl_bus *bus = new_bus();
    pl_receiver *running = subscribe(bus);
    pl_receiver *parked = subscribe(bus);
    pl_receiver_expect(running);
    CHECK(pl_bus_try_broadcast(bus) == 1); /* the first is always taken in */
    CHECK(pl_bus_try_broadcast(bus) == 0 && pl_bus_try_broadcast(bus) == 0);
    CHECK(pl_bus_sent(bus) == 1);
    pl_receiver_take(running, 1);
    /* the number was not used up, and it has no acknowledgement pending: it was not expected */
    CHECK(pl_bus_try_broadcast(bus) == 2);
    CHECK(pl_bus_try_broadcast(bus) == 3);
    CHECK(pl_receiver_taken(running) == 1 && pl_receiver_taken(parked) == 0);
    free_bus(bus);
}

static void test_expectation_is_for_the_next_message_that_is_sent(void) {
    pl_bus *bus = new_bus();
    pl_receiver *one = subscribe(bus), *other = subscribe(bus);
    pl_receiver_expect(one);
    CHECK(pl_bus_try_broadcast(bus) == 1);
    pl_receiver_expect(other);
    /* not sent: `other` is still expected to take the next */
    CHECK(pl_bus_try_broadcast(bus) == 0);
    pl_receiver_take(one, 1);
    CHECK(pl_bus_try_broadcast(bus) == 2);
    CHECK(pl_bus_try_broadcast(bus) == 0);
    pl_receiver_take(one, 2);
    CHECK(pl_bus_try_broadcast(bus) == 0); /* it is the other one that owes */
    pl_receiver_take(other, 1);
    CHECK(pl_bus_try_broadcast(bus) == 0); /* not an old one, but what it owes */
    pl_receiver_take(other, 2);
    CHECK(pl_bus_try_broadcast(bus) == 3);
    free_bus(bus);
}

static void test_dead_receiver_is_forgiven(void) {
    pl_bus *bus = new_bus();
    pl_receiver *dead = subscribe(bus);
    pl_receiver_expect(dead);
    pl_receiver_acknowledge_all(dead); /* before */
    CHECK(pl_bus_try_broadcast(bus) == 1 && pl_bus_try_broadcast(bus) == 2);
    pl_receiver_expect(dead);
    CHECK(pl_bus_try_broadcast(bus) == 3 && pl_bus_try_broadcast(bus) == 0);
    pl_receiver_acknowledge_all(dead); /* and after */
    CHECK(pl_bus_try_broadcast(bus) == 4);
    CHECK(pl_receiver_taken(dead) == 0);
    free_bus(bus);
}

static void test_receivers_are_added_and_dropped(void) {
    for (int dropped = 0; dropped < RECEIVERS; dropped++) {
        pl_bus *bus = new_bus();
        pl_receiver *receivers[RECEIVERS];
        for (size_t i = 0; i < RECEIVERS; i++) {
            CHECK(pl_bus_receivers(bus) == i);
            receivers[i] = subscribe(bus);
        }
        pl_receiver_expect(receivers[dropped]);
        CHECK(pl_bus_try_broadcast(bus) == 1 && pl_bus_try_broadcast(bus) == 0);
        unsubscribe(bus, receivers[dropped]); /* its debt goes with it */
        CHECK(pl_bus_receivers(bus) == RECEIVERS - 1);
        CHECK(pl_bus_try_broadcast(bus) == 2);
        pl_receiver *added = subscribe(bus);
        CHECK(pl_bus_receivers(bus) == RECEIVERS && pl_receiver_taken(added) == 2);
        for (int i = 0; i < RECEIVERS; i++) {
            if (i != dropped) {
                CHECK(pl_receiver_taken(receivers[i]) == 0);
                unsubscribe(bus, receivers[i]);
            }
        }
        CHECK(pl_bus_receivers(bus) == 1);
        unsubscribe(bus, added);
        CHECK(pl_bus_receivers(bus) == 0);
        CHECK(pl_bus_try_broadcast(bus) == 3);
        free_bus(bus);
    }
}

/* What a message says is plain: ThreadSanitizer sees it if its number is stored before, or an
 * acknowledgement is visible before it is given. */

static pl_bus *bus;
static uint64_t text;
static uint64_t copies[RECEIVERS];

struct listener {
    pl_receiver *receiver;
    uint64_t *copy;
};

static void *take_each(void *argument) {
    struct listener *listener = argument;
    for (uint64_t number = 1; number <= MESSAGES; number++) {
        AWAIT(pl_bus_sent(bus) >= number);
        CHECK(pl_bus_sent(bus) == number && text == 3 * number); /* one deep: it is waited for */
        *listener->copy = text;
        pl_receiver_take(listener->receiver, number);
    }
    return NULL;
}

static void test_messages_and_answers_carry_what_was_done_before(void) {
    struct listener listeners[RECEIVERS];
    pthread_t threads[RECEIVERS];
    bus = new_bus();
    for (int i = 0; i < RECEIVERS; i++) {
        listeners[i] = (struct listener){.receiver = subscribe(bus), .copy = &copies[i]};
        threads[i] = thread_start(take_each, &listeners[i]);
    }
    for (uint64_t number = 1; number <= MESSAGES; number++) {
        text = 3 * number;
        for (int i = 0; i < RECEIVERS; i++) {
            pl_receiver_expect(listeners[i].receiver);
        }
        CHECK(pl_bus_try_broadcast(bus) == number);
        for (int i = 0; i < RECEIVERS; i++) {
            AWAIT(pl_receiver_taken(listeners[i].receiver) == number);
            CHECK(copies[i] == 3 * number);
        }
    }
    for (int i = 0; i < RECEIVERS; i++) {
        thread_join(threads[i]);
    }
    free_bus(bus);
}

int main(void) {
    check_begin(0);
    RUN(test_messages_are_numbered_from_one);
    RUN(test_receiver_gets_what_is_sent_after_it_came);
    RUN(test_bus_is_one_message_deep_for_who_owes_an_answer);
    RUN(test_expectation_is_for_the_next_message_that_is_sent);
    RUN(test_dead_receiver_is_forgiven);
    RUN(test_receivers_are_added_and_dropped);
    RUN(test_messages_and_answers_carry_what_was_done_before);
    return 0;
}
