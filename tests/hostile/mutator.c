/* mutator.c - the acts of a hostile peer. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "hostile.h"

static uint32_t below(mutator *m, uint32_t limit) {
    return hostile_below(&m->random, limit);
}

/* interesting: returns a number at a boundary. */
static uint64_t interesting(mutator *m) {
    static const uint64_t edges[] = {0,
                                     1,
                                     PISO__RING_CHUNK,
                                     PISO__RING_SLOTS - 1,
                                     PISO__RING_SLOTS,
                                     PISO__RING_MESSAGE_MAX,
                                     PISO__RING_MESSAGE_MAX + 1,
                                     INT32_MAX,
                                     UINT32_MAX,
                                     (uint64_t)UINT32_MAX + 1,
                                     INT64_MAX,
                                     UINT64_MAX - 63,
                                     UINT64_MAX};
    switch (below(m, 3)) {
    case 0:
        return hostile_random(&m->random);
    case 1:
        return edges[below(m, sizeof edges / sizeof *edges)];
    default:
        return edges[below(m, sizeof edges / sizeof *edges)] + below(m, 5) - 2;
    }
}

static piso__ring_shared *ring(mutator *m, int index) {
    return (piso__ring_shared *)(void *)m->session->channel->memory + index;
}

/* ---- writing over shared memory ---- */

/* store: stores whole words atomically, as the host reads them, and anything else byte by byte. */
static void store(void *at, uint64_t value, size_t size) {
    if (size == 8 && ((uintptr_t)at & 7) == 0)
        atomic_store_explicit((_Atomic uint64_t *)at, value, memory_order_relaxed);
    else
        for (size_t i = 0; i < size; i++)
            ((volatile uint8_t *)at)[i] = (uint8_t)(value >> (8 * i));
}

static void poke_anywhere(mutator *m) {
    size_t size = (size_t)1 << below(m, 4);
    uint32_t offset = below(m, (uint32_t)(PISO__CONTROL_SIZE - 8));
    if (below(m, 2))
        offset &= ~7u;
    store(m->session->channel->memory + offset, interesting(m), size);
}

/* poke_next_slots: changes the slots that the host reads next. */
static void poke_next_slots(mutator *m) {
    piso__ring_producer *tx = &m->session->channel->tx;
    uint64_t position = tx->position + below(m, 6) - 3;
    piso__ring_slot *slot = &tx->shared->slots[position % PISO__RING_SLOTS];
    uint64_t sequence = (uint32_t)(position + 1 + (below(m, 4) ? 0 : below(m, 3) - 1));
    uint64_t size = below(m, 2) ? below(m, 200) : (uint32_t)interesting(m);
    if (below(m, 3))
        store(&slot->word, size << 32 | sequence, 8);
    else
        store(slot->payload + below(m, PISO__RING_CHUNK - 8), interesting(m), 8);
}

static void poke_flags(mutator *m) {
    piso__ring_shared *r = ring(m, (int)below(m, 2));
    switch (below(m, 4)) {
    case 0:
        store(&r->consumed, below(m, 2) ? interesting(m) : m->session->channel->rx.position + below(m, 5) - 2, 8);
        break;
    case 1:
        store(&r->want_space, below(m, 2), 4);
        break;
    case 2:
        store(&r->sleeping, below(m, 2), 4);
        break;
    default:
        store(&r->coming, interesting(m), 4);
    }
}

static void poke_arena(mutator *m) {
    piso__channel *c = m->session->channel;
    int which = (int)below(m, 2);
    uint32_t offset = below(m, 1u << 18) & ~7u;
    if (below(m, 16))
        store(c->memory + piso__channel_arena_at(c, which) + offset, interesting(m), 8);
    else
        piso__punch(c->memory_fd, piso__channel_arena_at(c, which) + (offset & ~4095u), 4096u << below(m, 4));
}

static void punch_rings(mutator *m) {
    piso__punch(m->session->channel->memory_fd, below(m, (uint32_t)PISO__CONTROL_SIZE) & ~4095u, 4096);
}

/* ---- messages ---- */

static void remember(mutator *m, const void *data, size_t size) {
    if (size > sizeof m->memories[0].data)
        return;
    remembered *r = &m->memories[m->memory_count++ % MEMORIES];
    r->size = (uint32_t)size;
    memcpy(r->data, data, size);
}

bool mutator_send(mutator *m, const void *data, size_t size) {
    piso__channel *c = m->session->channel;
    piso__ring_part part = {data, size};
    int r = piso__ring_send(&c->tx, &part, 1);
    if (r == PISO_EPROTO) /* we have damaged our own cursor */
        store(&c->tx.shared->consumed, c->tx.position, 8);
    if (r == -EAGAIN && m->calm)
        sched_yield(); /* to a host that reads at the same time */
    if (r == 0 && piso__ring_must_wake(&c->tx))
        piso__bell_ring(c->bell);
    return r == 0;
}

uint64_t mutator_read(mutator *m) {
    static _Thread_local uint8_t buffer[PISO__RING_MESSAGE_MAX];
    piso__ring_consumer *rx = &m->session->channel->rx;
    int64_t size = piso__ring_peek(rx);
    bool wake;
    if (size <= 0 || piso__ring_take(rx, buffer, (size_t)size, &wake) < 0)
        return 0;
    if (wake)
        piso__bell_ring(m->session->channel->bell);
    piso__frame frame;
    const uint8_t *spans, *body;
    size_t body_size;
    if (piso__frame_decode(buffer, (size_t)size, &frame, &spans, &body, &body_size) < 0)
        return 0;
    mutator_note(m, &frame, spans, body, body_size);
    return frame.type == PISO__FRAME_CALL ? frame.id : 0;
}

/* make_message: makes a valid message, or nearly so. */
static size_t make_message(mutator *m, uint8_t *data) {
    piso__frame f = {.type = (uint8_t)(1 + below(m, 7))};
    size_t body = 0;
    if (f.type == PISO__FRAME_CALL && below(m, 4) == 0)
        f.parent = below(m, 2) ? mutator_read(m) : interesting(m);
    uint8_t *at = data + (f.parent ? PISO__HEADER_MAX : PISO__FRAME_SIZE);
    f.id = f.type == PISO__FRAME_CALL ? (uint64_t)below(m, 3) << 32 | (1 + below(m, 80)) : mutator_read(m);
    if (f.type <= PISO__FRAME_ERROR) {
        f.nspans = (uint16_t)(below(m, 4) ? 0 : 1 + below(m, 3));
        for (int i = 0; i < f.nspans; i++, at += PISO__SPAN_SIZE) {
            piso_span span = {.generation = below(m, 9),
                              .offset = below(m, 4) ? below(m, 1u << 20) & ~63u : interesting(m),
                              .length = below(m, 4) ? below(m, 1u << 16) : interesting(m)};
            piso__span_encode(&span, at);
        }
        if (f.nspans && below(m, 2))
            f.flags = PISO__FRAME_BODY_SPAN;
        else
            body = below(m, 100);
    }
    if (f.type == PISO__FRAME_CALL) {
        f.flags |= (uint8_t)below(m, 4);
        f.id = f.flags & PISO_CALL_NO_REPLY ? 0 : f.id;
        f.object = below(m, 2) ? below(m, 4) : mutator_object(m);
        f.method = below(m, 4);
        f.timeout_ms = below(m, 3);
    } else if (f.type == PISO__FRAME_RELEASE || f.type == PISO__FRAME_DEFINE || f.type == PISO__FRAME_GOODBYE) {
        f.id = 0;
        body = f.type == PISO__FRAME_RELEASE ? 16 : f.type == PISO__FRAME_DEFINE ? 1 + below(m, 60) : 0;
        f.method = f.type == PISO__FRAME_DEFINE ? m->names++ : 0;
        if (f.type == PISO__FRAME_GOODBYE && below(m, 64))
            f.type = PISO__FRAME_CANCEL, f.id = 1 + below(m, 80);
    }
    piso__frame_encode(&f, data);
    if (f.type == PISO__FRAME_RELEASE)
        piso__release_encode(below(m, 1u << 20) & ~4095u, below(m, 50), at);
    else
        memset(at, below(m, 2) ? 0xc0 : 'a', body);
    return (size_t)(at - data) + body;
}

static void send_message(mutator *m) {
    uint8_t data[512];
    size_t size = make_message(m, data);
    if (below(m, 3) == 0)
        for (uint32_t i = 1 + below(m, 3); i > 0; i--)
            data[below(m, (uint32_t)size)] = (uint8_t)interesting(m);
    if (below(m, 40) == 0)
        size = 1 + below(m, (uint32_t)size);
    remember(m, data, size);
    mutator_send(m, data, size);
}

/* send_answer: sends what an honest peer would. */
static void send_answer(mutator *m) {
    uint64_t id = mutator_read(m);
    if (!id)
        return;
    uint8_t data[PISO__FRAME_SIZE + 1];
    piso__frame f = {.type = (uint8_t)(PISO__FRAME_REPLY + below(m, 2)), .id = id};
    piso__frame_encode(&f, data);
    data[PISO__FRAME_SIZE] = 0xc0;
    remember(m, data, sizeof data);
    mutator_send(m, data, sizeof data);
}

static void send_noise(mutator *m) {
    uint8_t data[256];
    size_t size = 1 + below(m, sizeof data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)hostile_random(&m->random);
    mutator_send(m, data, size);
}

static void replay(mutator *m) {
    uint32_t known = m->memory_count < MEMORIES ? m->memory_count : MEMORIES;
    for (uint32_t i = 1 + below(m, 3); known && i > 0; i--) {
        const remembered *r = &m->memories[below(m, known)];
        mutator_send(m, r->data, r->size);
    }
}

static void flood(mutator *m) {
    uint8_t data[512];
    size_t size = make_message(m, data);
    for (int i = 0; i < 2000 && mutator_send(m, data, size); i++)
        ;
}

/* ---- doorbells and the socket ---- */

static void ring_bells(mutator *m) {
    for (uint32_t i = below(m, 8); i > 0; i--) {
        piso__bell_ring(m->session->channel->bell);
        if (below(m, 4) == 0)
            piso__bell_clear(m->session->channel->bell);
    }
}

static void send_on_socket(mutator *m) {
    int fd = m->session->channel->socket_fd;
    uint8_t data[64] = {0};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (below(m, 200) == 0)
        shutdown(fd, SHUT_RDWR);
    else if (below(m, 2))
        piso__send_fds(fd, data, 1 + below(m, 63), &fd, 1);
    else
        send(fd, data, below(m, 64), MSG_NOSIGNAL);
}

void mutator_meet(mutator *m, piso_session *session) {
    m->session = session;
    m->names = 0;
    m->calm = below(m, 2);
    memset(m->attached, 0, sizeof m->attached);
    m->theirs.count = m->announced.count = m->retired.count = m->leases.count = m->objects.count = m->owed = 0;
}

void mutator_act(mutator *m) {
    /* how often of 1000; most acts leave the session alive, so that there is something to attack */
    typedef struct choice {
        uint32_t weight;
        void (*act)(mutator *);
    } choice;
    static const choice wild[] = {
        {100, poke_anywhere},  {30, poke_next_slots},
        {80, poke_flags},      {180, poke_arena},
        {10, punch_rings},     {50, send_message},
        {300, send_answer},    {10, send_noise},
        {20, replay},          {10, flood},
        {80, ring_bells},      {20, send_on_socket},
        {25, act_attach},      {5, act_attach_wrongly},
        {25, act_name},        {5, act_name_wrongly},
        {5, act_retire},       {2, act_retire_wrongly},
        {10, act_acknowledge}, {2, act_acknowledge_wrongly},
        {5, act_end_leases},   {5, act_on_memory},
        {1, act_fill_socket},  {20, act_refer},
    };
    static const choice calm[] = {
        {150, act_attach},    {4, act_attach_wrongly}, {200, act_name},        {2, act_name_wrongly},
        {140, act_retire},    {2, act_retire_wrongly}, {120, act_acknowledge}, {2, act_acknowledge_wrongly},
        {60, act_end_leases}, {60, act_on_memory},     {1, act_fill_socket},   {100, send_answer},
        {39, poke_arena},     {20, ring_bells},        {100, act_refer},
    };
    const choice *acts = m->calm ? calm : wild;
    uint32_t chosen = below(m, 1000);
    size_t i = 0;
    while (chosen >= acts[i].weight)
        chosen -= acts[i++].weight;
    m->mutations++;
    acts[i].act(m);
}
