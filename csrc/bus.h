/* bus: numbered messages from whoever holds the write lock to every receiver.
 *
 * A message is its number; what it says is kept by the sender, in a log. A receiver that was parked when messages were sent takes all of
 * them later, from the log. For a receiver that was running the bus is one message deep: it was waited for, so it must have taken the
 * last message before the next is sent, and a bus that is full is a broken protocol, never a reason to wait.
 *
 * States of a receiver: the newest number it has taken, and the newest it owes an answer to. Who calls: subscribing, unsubscribing and
 * sending need the write lock; taking is for the receiver's own thread; looking is for any. Blocking: never. Memory order: a number
 * is stored SeqCst after what it announces.
 *
 *     pl_receiver_expect(receiver);                     // it is running: it owes an answer to the next message
 *     if (pl_bus_try_broadcast(bus) == 0) abort_the_linker();
 */
#ifndef PL_BUS_H
#define PL_BUS_H

#include <stddef.h>
#include <stdint.h>

typedef struct pl_bus pl_bus;
typedef struct pl_receiver pl_receiver;

/* A bus without receivers and messages, or NULL if there is no memory. */
pl_bus *pl_bus_new(void);
/* Frees the bus and the receivers it still has. */
void pl_bus_free(pl_bus *bus);

/* A receiver for all messages after the last one sent, or NULL if there is no memory. */
pl_receiver *pl_bus_subscribe(pl_bus *bus);
void pl_bus_unsubscribe(pl_bus *bus, pl_receiver *receiver);
size_t pl_bus_receivers(const pl_bus *bus);

/* Sends the next message. Answers its number (from 1), or 0, with nothing sent, if a receiver still owes an answer to an earlier one. */
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
