/* Discipline: the list and `expected` and `owed` are under the write lock of the linker; `sent` and `taken` are atomic. */
#include "bus.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_receiver {
    _Atomic uint64_t taken;
    uint64_t owed;
    int expected;
    pl_receiver *next;
};

struct pl_bus {
    _Atomic uint64_t sent;
    size_t count;
    pl_receiver *first;
};

pl_bus *pl_bus_new(void) {
    pl_bus *bus = malloc(sizeof *bus);
    if (bus != NULL) {
        atomic_init(&bus->sent, 0);
        bus->count = 0;
        bus->first = NULL;
    }
    return bus;
}

void pl_bus_free(pl_bus *bus) {
    if (bus == NULL) {
        return;
    }
    while (bus->first != NULL) {
        pl_bus_unsubscribe(bus, bus->first);
    }
    free(bus);
}

pl_receiver *pl_bus_subscribe(pl_bus *bus) {
    pl_receiver *receiver = malloc(sizeof *receiver);
    if (receiver != NULL) {
        atomic_init(&receiver->taken, atomic_load(&bus->sent));
        receiver->owed = 0;
        receiver->expected = 0;
        receiver->next = bus->first;
        bus->first = receiver;
        bus->count++;
    }
    return receiver;
}

void pl_bus_unsubscribe(pl_bus *bus, pl_receiver *receiver) {
    for (pl_receiver **place = &bus->first; *place != NULL; place = &(*place)->next) {
        if (*place == receiver) {
            *place = receiver->next;
            bus->count--;
            free(receiver);
            return;
        }
    }
}

size_t pl_bus_receivers(const pl_bus *bus) {
    return bus->count;
}

uint64_t pl_bus_try_broadcast(pl_bus *bus) {
    for (pl_receiver *receiver = bus->first; receiver != NULL; receiver = receiver->next) {
        if (receiver->owed > atomic_load(&receiver->taken)) {
            return 0;
        }
    }
    uint64_t number = atomic_load(&bus->sent) + 1;
    for (pl_receiver *receiver = bus->first; receiver != NULL; receiver = receiver->next) {
        if (receiver->expected) {
            receiver->owed = number;
            receiver->expected = 0;
        }
    }
    atomic_store(&bus->sent, number);
    return number;
}

uint64_t pl_bus_sent(const pl_bus *bus) {
    return atomic_load(&bus->sent);
}

void pl_receiver_expect(pl_receiver *receiver) {
    receiver->expected = 1;
}

void pl_receiver_forgive(pl_receiver *receiver) {
    receiver->owed = 0;
    receiver->expected = 0;
}

uint64_t pl_receiver_taken(const pl_receiver *receiver) {
    return atomic_load(&receiver->taken);
}

void pl_receiver_take(pl_receiver *receiver, uint64_t number) {
    atomic_store(&receiver->taken, number);
}
