/* bus: numbered messages from the holder of the write lock to every receiver.
 *
 * A message is its number; its content is in a log of the sender. A receiver that was parked when
 * messages were sent takes all of them later, from the log. For a receiver that was running the bus
 * is one message deep: the sender waited for it, so it must have taken the last message before the
 * next is sent. A full bus is therefore a protocol violation, never a reason to wait.
 *
 * States of a receiver: the newest number it has taken, and the newest it has to acknowledge.
 * Protects: nothing.
 * Requires: the write lock to subscribe, unsubscribe and send; the receiver's own thread to take.
 * Blocks: never.
 * Memory order: a number is stored SeqCst after the state that it announces.
 * Threads: any may read.
 *
 *     pl_receiver_expect(receiver); // it is running: it has to acknowledge the next message
 *     if (pl_bus_try_broadcast(bus) == 0) abort_the_linker(); */
#ifndef PL_BUS_H
#define PL_BUS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Protected by the write lock, except for the atomic fields. */
typedef struct pl_receiver {
    _Atomic uint64_t taken;
    uint64_t unacknowledged;
    int expected;
    struct pl_receiver *next;
} pl_receiver;

typedef struct pl_bus {
    _Atomic uint64_t sent;
    _Atomic size_t count;
    pl_receiver *first;
} pl_bus;

/* Initializes a bus without receivers and messages. Never fails; nothing needs to be released. */
void pl_bus_init(pl_bus *bus);

/* Subscribes `receiver` to all messages after the last one sent. Its address must not change until
 * it is unsubscribed. */
void pl_bus_subscribe(pl_bus *bus, pl_receiver *receiver);
void pl_bus_unsubscribe(pl_bus *bus, pl_receiver *receiver);
/* Returns the number of receivers. Any thread; relaxed. */
size_t pl_bus_receivers(const pl_bus *bus);

/* Sends the next message. Returns its number (from 1); or 0, with nothing sent, if a receiver has
 * not acknowledged an earlier one. */
uint64_t pl_bus_try_broadcast(pl_bus *bus);
/* Returns the number of the last message, 0 before the first. */
uint64_t pl_bus_sent(const pl_bus *bus);

/* Notes that the receiver is running and has to acknowledge the next message. */
void pl_receiver_expect(pl_receiver *receiver);
/* Clears the pending acknowledgement of a receiver whose group is dead. */
void pl_receiver_acknowledge_all(pl_receiver *receiver);
/* Returns the newest message that the receiver has taken. */
uint64_t pl_receiver_taken(const pl_receiver *receiver);
/* Notes that all messages up to `number` are taken. */
void pl_receiver_take(pl_receiver *receiver, uint64_t number);

#endif
