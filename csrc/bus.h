/* bus: numbered messages from whoever holds the write lock to every receiver.
 *
 * A message is its number; what it says is kept by the sender, in a log. A receiver that was
 * parked when messages were sent takes all of them later, from the log. For a receiver that was
 * running the bus is one message deep: it was waited for, so it must have taken the last message
 * before the next is sent, and a bus that is full is a broken protocol, never a reason to wait.
 *
 * States of a receiver: the newest number it has taken, and the newest it owes an answer to. Who
 * calls: subscribing, unsubscribing and sending need the write lock; taking is for the
 * receiver's own thread; looking is for any. Blocking: never. Memory order: a number is stored
 * SeqCst after what it announces.
 *
 *     pl_receiver_expect(receiver); // it is running: it owes an answer to the next message
 *     if (pl_bus_try_broadcast(bus) == 0) abort_the_linker(); */
#ifndef PL_BUS_H
#define PL_BUS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Protected by the write lock, but for the atomic fields. */
typedef struct pl_receiver {
    _Atomic uint64_t taken;
    uint64_t owed;
    int expected;
    struct pl_receiver *next;
} pl_receiver;

typedef struct pl_bus {
    _Atomic uint64_t sent;
    _Atomic size_t count;
    pl_receiver *first;
} pl_bus;

/* Makes a bus without receivers and messages. It never fails, and there is nothing to release. */
void pl_bus_init(pl_bus *bus);

/* Makes `receiver` one for all messages after the last one sent; it stays where it is until it
 * is unsubscribed. */
void pl_bus_subscribe(pl_bus *bus, pl_receiver *receiver);
void pl_bus_unsubscribe(pl_bus *bus, pl_receiver *receiver);
/* How many there are; any thread, relaxed. */
size_t pl_bus_receivers(const pl_bus *bus);

/* Sends the next message. Returns its number (from 1), or 0, with nothing sent, if a receiver
 * still owes an answer to an earlier one. */
uint64_t pl_bus_try_broadcast(pl_bus *bus);
/* The number of the last message, 0 before the first. */
uint64_t pl_bus_sent(const pl_bus *bus);

/* The next message finds this receiver running. */
void pl_receiver_expect(pl_receiver *receiver);
/* Its group is dead: it owes nothing. */
void pl_receiver_forgive(pl_receiver *receiver);
/* The newest message it has taken. */
uint64_t pl_receiver_taken(const pl_receiver *receiver);
/* All messages up to `number` are taken. */
void pl_receiver_take(pl_receiver *receiver, uint64_t number);

#endif
