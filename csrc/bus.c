/* Discipline: the write lock protects the list of receivers; numbers are atomic. */
#include "bus.h"

void pl_bus_init(pl_bus *bus) {
    atomic_init(&bus->sent, 0);
    atomic_init(&bus->count, 0);
    bus->first = NULL;
}

static void count(pl_bus *bus, size_t change) { /* under the write lock: no other writer */
    atomic_store_explicit(&bus->count, pl_bus_receivers(bus) + change, memory_order_relaxed);
}

void pl_bus_subscribe(pl_bus *bus, pl_receiver *receiver) {
    atomic_init(&receiver->taken, atomic_load(&bus->sent));
    receiver->unacknowledged = 0;
    receiver->expected = 0;
    receiver->next = bus->first;
    bus->first = receiver;
    count(bus, 1);
}

void pl_bus_unsubscribe(pl_bus *bus, pl_receiver *receiver) {
    for (pl_receiver **place = &bus->first; *place != NULL; place = &(*place)->next) {
        if (*place == receiver) {
            *place = receiver->next;
            count(bus, (size_t)-1);
            return;
        }
    }
}

size_t pl_bus_receivers(const pl_bus *bus) {
    return atomic_load_explicit(&bus->count, memory_order_relaxed);
}

uint64_t pl_bus_try_broadcast(pl_bus *bus) {
    for (pl_receiver *receiver = bus->first; receiver != NULL; receiver = receiver->next) {
        if (receiver->unacknowledged > atomic_load(&receiver->taken)) {
            return 0;
        }
    }
    uint64_t number = atomic_load(&bus->sent) + 1;
    for (pl_receiver *receiver = bus->first; receiver != NULL; receiver = receiver->next) {
        if (receiver->expected) {
            receiver->unacknowledged = number;
            receiver->expected = 0;
        }
    }
    atomic_store(&bus->sent, number);
    return number;
}

uint64_t pl_bus_sent(const pl_bus *bus) { return atomic_load(&bus->sent); }

void pl_receiver_expect(pl_receiver *receiver) { receiver->expected = 1; }

void pl_receiver_acknowledge_all(pl_receiver *receiver) {
    receiver->unacknowledged = 0;
    receiver->expected = 0;
}

uint64_t pl_receiver_taken(const pl_receiver *receiver) { return atomic_load(&receiver->taken); }

void pl_receiver_take(pl_receiver *receiver, uint64_t number) {
    atomic_store(&receiver->taken, number);
}
