/* ring.h - a single-producer, single-consumer ring of messages in shared memory, and its sleeping flag.
 *
 * 1024 slots of one cache line. The first 8 bytes of every slot are an atomic word
 *
 *     bits 0..31   sequence: low 32 bits of (position + 1), so that 0, the memory's first state, is "empty"
 *     bits 32..63  in the first slot of a message: its size in bytes; in continuation slots: 0
 *
 * and the other 56 carry payload. A message takes ceil(size / 56) consecutive slots (mod 1024). The producer
 * fills continuation slots first and publishes the first slot's word last, so the consumer polls exactly the
 * cache line that brings the message: one transfer for a small one.
 *
 * Each side's cursor is private. The consumer stores `consumed` with every message, so that whoever looks can tell
 * a queue that moves from one that does not; it publishes it, with a fence and a look at whether the producer wants
 * space, lazily (every quarter of the ring, when it goes to sleep, or when it sees that wish). Nothing read from
 * shared memory is trusted: every word is loaded once, checked, then used; payload is copied to private memory
 * before it is parsed.
 *
 * Lost wake-ups: the producer publishes (sequentially consistent), then reads `sleeping`; the consumer sets
 * `sleeping` (sequentially consistent), then reads the slot word again. One of the two sees the other.
 * tests/model/ring.pml checks it exhaustively. The same handshake with want_space/consumed covers a full ring.
 *
 * Not thread-safe on one side: the owner's lock. */
#ifndef PISO_MEMORY_RING_H
#define PISO_MEMORY_RING_H

#include "base/base.h"

#define PISO__RING_SLOTS       1024u
#define PISO__RING_CHUNK       56u
#define PISO__RING_MESSAGE_MAX (640u * PISO__RING_CHUNK)

typedef struct piso__ring_slot {
    alignas(PISO__CACHE_LINE) _Atomic uint64_t word;
    uint8_t payload[PISO__RING_CHUNK];
} piso__ring_slot;

/* The layout both processes share; docs/wire-format.md. All zero is the valid first state. */
typedef struct piso__ring_shared {
    piso__ring_slot slots[PISO__RING_SLOTS];
    alignas(PISO__CACHE_LINE) _Atomic uint64_t consumed;   /* position; written by the consumer */
    alignas(PISO__CACHE_LINE) _Atomic uint32_t want_space; /* set by the producer, cleared by the consumer */
    alignas(PISO__CACHE_LINE) _Atomic uint32_t sleeping;   /* set by the consumer, cleared by the producer */
    _Atomic uint32_t coming;   /* 1 + the processor that the producer writes a large message on; a hint, 0: none */
    _Atomic uint32_t waits_on; /* 1 + the processor that the consumer has last waited on; a hint, 0: it has not */
} piso__ring_shared;

static_assert(sizeof(piso__ring_slot) == 64 && offsetof(piso__ring_slot, payload) == 8 &&
                  offsetof(piso__ring_shared, consumed) == 64 * PISO__RING_SLOTS &&
                  sizeof(piso__ring_shared) == 64 * (PISO__RING_SLOTS + 3),
              "the layout is the same on each machine, whatever its cache lines and its compiler are");

typedef struct piso__ring_producer {
    piso__ring_shared *shared;
    uint64_t position;      /* next slot to fill */
    uint64_t consumed_seen; /* last checked value of `consumed` */
} piso__ring_producer;

typedef struct piso__ring_consumer {
    piso__ring_shared *shared;
    uint64_t position;  /* next slot to read */
    uint64_t published; /* last value of `consumed` after which it looked at `want_space` */
} piso__ring_consumer;

typedef struct piso__ring_part {
    const void *data;
    size_t size;
} piso__ring_part;

void piso__ring_producer_init(piso__ring_producer *p, piso__ring_shared *shared);
void piso__ring_consumer_init(piso__ring_consumer *c, piso__ring_shared *shared);

/* piso__ring_send: publishes one message, the parts one after another (total 1..PISO__RING_MESSAGE_MAX).
 * 0, or -EAGAIN when there is no room (want_space has been set: the consumer will ring once there is), or
 * PISO_EPROTO when the consumer published a cursor that cannot be. */
int piso__ring_send(piso__ring_producer *p, const piso__ring_part *parts, int count);
/* piso__ring_room: what piso__ring_send would return now for a message of that size. */
int piso__ring_room(piso__ring_producer *p, size_t size);
/* piso__ring_wants_space: whether the consumer has still to make the room that a send did not find. */
static inline bool piso__ring_wants_space(const piso__ring_producer *p) {
    return atomic_load_explicit(&p->shared->want_space, memory_order_acquire) != 0;
}
/* piso__ring_must_wake: after one or more sends, whether the consumer sleeps and this caller has won the duty
 * to ring its doorbell (at most one caller per sleep). */
bool piso__ring_must_wake(piso__ring_producer *p);

/* piso__ring_ready: is a message (or garbage to be reported) there? One load of the next slot's word. */
bool piso__ring_ready(const piso__ring_consumer *c);
/* piso__ring_peek: size of the next message, 0 when there is none, PISO_EPROTO for a word that cannot be. The
 * size is latched by the caller: pass it to piso__ring_take. */
int64_t piso__ring_peek(const piso__ring_consumer *c);
/* piso__ring_take: copies the message of that size to `buffer`, which has room for whole chunks, and advances; what is
 * in it behind the message means nothing. PISO_EPROTO when a continuation
 * slot's word does not fit. Sets *ret_wake when the producer waits for space and its doorbell must be rung
 * (consumed has been published). */
int piso__ring_take(piso__ring_consumer *c, void *buffer, size_t size, bool *ret_wake);
/* piso__ring_publish: publishes the cursor now; true when the producer waits for space (ring its doorbell). */
bool piso__ring_publish(piso__ring_consumer *c);
/* piso__ring_arm: says that this consumer is going to sleep. true: a message is there, do not sleep. */
bool piso__ring_arm(piso__ring_consumer *c);
/* piso__ring_disarm: it is awake (saves the producer a system call; never needed for correctness). */
void piso__ring_disarm(piso__ring_consumer *c);

#endif
