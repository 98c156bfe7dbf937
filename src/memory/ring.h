/* ring.h - a single-producer, single-consumer ring of messages in shared memory, and its `sleeping` flag.
 *
 * 1024 slots of one cache line. The first 8 bytes of every slot are an atomic word
 *
 *     bits 0..31   sequence: low 32 bits of (position + 1), so that 0, the memory's first state, means "empty"
 *     bits 32..63  in the first slot of a message: its size in bytes; in continuation slots: 0
 *
 * and the other 56 carry payload. A message takes ceil(size / 56) consecutive slots (mod 1024). The producer
 * fills the continuation slots first and publishes the first slot's word last. So the consumer polls exactly
 * the cache line that brings the message, and a small message takes one cache-line transfer.
 *
 * Each side's cursor is private. The consumer stores `consumed` with every message, so that an observer can
 * tell a queue that moves from one that does not. It publishes the cursor (a fence, then a check whether the
 * producer wants space) only every quarter of the ring, when it goes to sleep, or when it sees that the
 * producer wants space. Nothing read from shared memory is trusted: every word is loaded once, checked, then
 * used; payload is copied to private memory before it is parsed.
 *
 * Lost wake-ups: the producer publishes (sequentially consistent), then loads `sleeping`; the consumer sets
 * `sleeping` (sequentially consistent), then loads the slot's word again. At least one of the two sees the
 * other's store. tests/model/ring.pml checks this exhaustively. The same handshake with want_space and consumed
 * covers a full ring.
 *
 * Each side is not thread-safe: the owner's lock guards it. */
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

/* The layout that both processes share; see docs/wire-format.md. All zero is the valid first state. */
typedef struct piso__ring_shared {
    piso__ring_slot slots[PISO__RING_SLOTS];
    alignas(PISO__CACHE_LINE) _Atomic uint64_t consumed;   /* position; written by the consumer */
    alignas(PISO__CACHE_LINE) _Atomic uint32_t want_space; /* set by the producer, cleared by the consumer */
    alignas(PISO__CACHE_LINE) _Atomic uint32_t sleeping;   /* set by the consumer, cleared by the producer */
    _Atomic uint32_t coming;   /* a hint: 1 + the processor on which the producer writes a large message; 0: none */
    _Atomic uint32_t waits_on; /* a hint: 1 + the processor on which the consumer last waited; 0: none yet */
} piso__ring_shared;

static_assert(sizeof(piso__ring_slot) == 64 && offsetof(piso__ring_slot, payload) == 8 &&
                  offsetof(piso__ring_shared, consumed) == 64 * PISO__RING_SLOTS &&
                  sizeof(piso__ring_shared) == 64 * (PISO__RING_SLOTS + 3),
              "the layout is the same on each machine, whatever its cache lines and its compiler are");

typedef struct piso__ring_producer {
    piso__ring_shared *shared;
    uint64_t position;      /* next slot to fill */
    uint64_t consumed_seen; /* last value of `consumed` that was checked */
} piso__ring_producer;

typedef struct piso__ring_consumer {
    piso__ring_shared *shared;
    uint64_t position;  /* next slot to read */
    uint64_t published; /* value of `consumed` when it last checked `want_space` */
} piso__ring_consumer;

typedef struct piso__ring_part {
    const void *data;
    size_t size;
} piso__ring_part;

void piso__ring_producer_init(piso__ring_producer *p, piso__ring_shared *shared);
void piso__ring_consumer_init(piso__ring_consumer *c, piso__ring_shared *shared);

/* piso__ring_send: publishes one message made of the parts in order (1 to PISO__RING_MESSAGE_MAX bytes in
 * total). 0; -EAGAIN when there is no room (want_space is set, and the consumer will ring once there is room);
 * PISO_EPROTO when the consumer published an impossible cursor. */
int piso__ring_send(piso__ring_producer *p, const piso__ring_part *parts, int count);
/* piso__ring_room: returns what piso__ring_send would return now for a message of that size. */
int piso__ring_room(piso__ring_producer *p, size_t size);
/* piso__ring_wants_space: whether the consumer has not yet made the room that a send lacked. */
static inline bool piso__ring_wants_space(const piso__ring_producer *p) {
    return atomic_load_explicit(&p->shared->want_space, memory_order_acquire) != 0;
}
/* piso__ring_must_wake: called after one or more sends. Whether the consumer sleeps and this caller must ring
 * its doorbell: at most one caller per sleep gets true. */
bool piso__ring_must_wake(piso__ring_producer *p);

/* piso__ring_ready: whether there is a message, or garbage that the next read reports. One load of the next
 * slot's word. */
bool piso__ring_ready(const piso__ring_consumer *c);
/* piso__ring_peek: returns the size of the next message, 0 when there is none, or PISO_EPROTO for an impossible
 * word. The caller keeps the size and passes it to piso__ring_take. */
int64_t piso__ring_peek(const piso__ring_consumer *c);
/* piso__ring_take: copies the message of that size to `buffer`, which must have room for whole chunks, and
 * advances. Bytes behind the message in the last chunk are undefined. PISO_EPROTO when a continuation slot's
 * word is wrong. Sets *ret_wake when the producer waits for space and the caller must ring its doorbell
 * (consumed is published then). */
int piso__ring_take(piso__ring_consumer *c, void *buffer, size_t size, bool *ret_wake);
/* piso__ring_publish: publishes the cursor. Returns true when the producer waits for space and the caller must
 * ring its doorbell. */
bool piso__ring_publish(piso__ring_consumer *c);
/* piso__ring_arm: announces that this consumer is going to sleep. Returns true when a message is there: do not
 * sleep. */
bool piso__ring_arm(piso__ring_consumer *c);
/* piso__ring_disarm: announces that this consumer is awake. It saves the producer a system call and is never
 * needed for correctness. */
void piso__ring_disarm(piso__ring_consumer *c);

#endif
