/* ring.c - see ring.h. The accesses of the two sleep handshakes are sequentially consistent operations on the
 * atomics themselves. They are not fences, because thread sanitizer does not understand fences. */
#include "memory/ring.h"

#include <string.h>

#define MASK           (PISO__RING_SLOTS - 1)
#define PUBLISH_EVERY  (PISO__RING_SLOTS / 4)
#define PREFETCH_SLOTS 8

static_assert((PISO__RING_SLOTS & MASK) == 0, "positions are masked");

static inline uint32_t sequence_at(uint64_t position) {
    return (uint32_t)position + 1;
}

static inline uint64_t slots_for(size_t size) {
    return (size + PISO__RING_CHUNK - 1) / PISO__RING_CHUNK;
}

static inline piso__ring_slot *slot_at(piso__ring_shared *shared, uint64_t position) {
    return &shared->slots[position & MASK];
}

void piso__ring_producer_init(piso__ring_producer *p, piso__ring_shared *shared) {
    *p = (piso__ring_producer){.shared = shared};
}

void piso__ring_consumer_init(piso__ring_consumer *c, piso__ring_shared *shared) {
    *c = (piso__ring_consumer){.shared = shared};
}

/* ---- producer ---- */

/* refresh: reads the consumer's cursor once and checks it: it must be between its last value and our own
 * cursor. */
static int refresh(piso__ring_producer *p) {
    uint64_t consumed = atomic_load(&p->shared->consumed);
    if (consumed - p->consumed_seen > p->position - p->consumed_seen)
        return PISO_EPROTO;
    p->consumed_seen = consumed;
    return 0;
}

static inline bool has_room(const piso__ring_producer *p, uint64_t needed) {
    return p->position + needed - p->consumed_seen <= PISO__RING_SLOTS;
}

/* make_room: returns 0 when `needed` slots are free. Otherwise it sets want_space and checks once more, because
 * the consumer may have freed slots between the first check and the flag. */
static int make_room(piso__ring_producer *p, uint64_t needed) {
    int r = refresh(p);
    if (r < 0 || has_room(p, needed))
        return r;
    atomic_store(&p->shared->want_space, 1);
    r = refresh(p);
    if (r < 0)
        return r;
    if (!has_room(p, needed))
        return -EAGAIN;
    atomic_store(&p->shared->want_space, 0);
    return 0;
}

static inline int room_for(piso__ring_producer *p, uint64_t needed) {
    return PISO__LIKELY(has_room(p, needed)) ? 0 : make_room(p, needed);
}

int piso__ring_room(piso__ring_producer *p, size_t size) {
    return room_for(p, slots_for(size));
}

/* A cursor over the parts of a message, which yields chunks. */
typedef struct gather {
    const piso__ring_part *part;
    size_t offset, left;
} gather;

static void fill(uint8_t *chunk, gather *g) {
    size_t room = g->left < PISO__RING_CHUNK ? g->left : PISO__RING_CHUNK;
    g->left -= room;
    while (room) {
        size_t n = g->part->size - g->offset;
        if (n > room)
            n = room;
        if (n > 0) /* an empty part may have no address */
            memcpy(chunk, (const uint8_t *)g->part->data + g->offset, n);
        chunk += n;
        room -= n;
        g->offset += n;
        if (g->offset == g->part->size) {
            g->part++;
            g->offset = 0;
        }
    }
}

/* fill_all: writes all slots of a message, and the words of all slots but the first. */
static void fill_all(piso__ring_producer *p, const piso__ring_part *parts, size_t size, uint64_t needed) {
    gather g = {.part = parts, .left = size};
    for (uint64_t i = 0; i < needed; i++) {
        piso__ring_slot *slot = slot_at(p->shared, p->position + i);
        fill(slot->payload, &g);
        if (i > 0)
            atomic_store_explicit(&slot->word, sequence_at(p->position + i), memory_order_relaxed);
    }
}

/* fill_one: the same for a message that fits into one chunk, as most do. */
static inline void fill_one(uint8_t *chunk, const piso__ring_part *parts, int count) {
    for (int i = 0; i < count; i++) {
        if (parts[i].size) /* an empty part may have no address */
            memcpy(chunk, parts[i].data, parts[i].size);
        chunk += parts[i].size;
    }
}

int piso__ring_send(piso__ring_producer *p, const piso__ring_part *parts, int count) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    assert(size > 0 && size <= PISO__RING_MESSAGE_MAX);
    uint64_t needed = slots_for(size);
    int r = room_for(p, needed);
    if (r < 0)
        return r;
    piso__ring_slot *first = slot_at(p->shared, p->position);
    if (PISO__LIKELY(needed == 1))
        fill_one(first->payload, parts, count);
    else
        fill_all(p, parts, size, needed);
    /* Release order publishes the payload and the other slots. Sequential consistency keeps must_wake's later
     * load of `sleeping` from moving before this store. */
    atomic_store(&first->word, (uint64_t)size << 32 | sequence_at(p->position));
    p->position += needed;
    /* The next message is likely to be as long. Its first slot is polled anyway; prefetch the others now. */
    for (uint64_t i = 1; i < needed && i < PREFETCH_SLOTS; i++)
        __builtin_prefetch(slot_at(p->shared, p->position + i), 1);
    return 0;
}

bool piso__ring_must_wake(piso__ring_producer *p) {
    return PISO__UNLIKELY(atomic_load(&p->shared->sleeping)) && atomic_exchange(&p->shared->sleeping, 0);
}

/* ---- consumer ---- */

static inline uint64_t next_word(const piso__ring_consumer *c, memory_order order) {
    return atomic_load_explicit(&slot_at(c->shared, c->position)->word, order);
}

/* A slot that was not written since it was read holds the sequence of the lap before (or 0 in the first lap). */
static inline bool is_empty(const piso__ring_consumer *c, uint64_t word) {
    uint32_t stale = c->position < PISO__RING_SLOTS ? 0 : sequence_at(c->position) - PISO__RING_SLOTS;
    return (uint32_t)word == stale;
}

bool piso__ring_ready(const piso__ring_consumer *c) {
    return !is_empty(c, next_word(c, memory_order_acquire));
}

int64_t piso__ring_peek(const piso__ring_consumer *c) {
    uint64_t word = next_word(c, memory_order_acquire);
    if (is_empty(c, word))
        return 0;
    uint64_t size = word >> 32;
    if ((uint32_t)word != sequence_at(c->position) || size == 0 || size > PISO__RING_MESSAGE_MAX)
        return PISO_EPROTO;
    return (int64_t)size;
}

int piso__ring_take(piso__ring_consumer *c, void *buffer, size_t size, bool *ret_wake) {
    uint8_t *to = buffer;
    uint64_t needed = slots_for(size);
    for (uint64_t i = 0; i < needed; i++) {
        const piso__ring_slot *slot = slot_at(c->shared, c->position + i);
        if (i > 0 && atomic_load_explicit(&slot->word, memory_order_relaxed) != sequence_at(c->position + i))
            return PISO_EPROTO;
        memcpy(to + i * PISO__RING_CHUNK, slot->payload, PISO__RING_CHUNK);
    }
    c->position += needed;
    /* The cache line stays on this side while nobody reads it. Release: the payload was read before this store. */
    atomic_store_explicit(&c->shared->consumed, c->position, memory_order_release);
    *ret_wake = false;
    if (c->position - c->published >= PUBLISH_EVERY ||
        PISO__UNLIKELY(atomic_load_explicit(&c->shared->want_space, memory_order_relaxed)))
        *ret_wake = piso__ring_publish(c);
    return 0;
}

bool piso__ring_publish(piso__ring_consumer *c) {
    if (c->published == c->position)
        return false;
    c->published = c->position;
    /* store first, then load the flag: the producer does it in the opposite order */
    atomic_store(&c->shared->consumed, c->position);
    return atomic_load(&c->shared->want_space) && atomic_exchange(&c->shared->want_space, 0);
}

bool piso__ring_arm(piso__ring_consumer *c) {
    atomic_store(&c->shared->sleeping, 1);
    return !is_empty(c, next_word(c, memory_order_seq_cst));
}

void piso__ring_disarm(piso__ring_consumer *c) {
    atomic_store_explicit(&c->shared->sleeping, 0, memory_order_relaxed);
}
