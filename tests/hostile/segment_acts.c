/* segment_acts.c - the acts of a hostile peer that concern shared segments and leases.
 *
 * The descriptors are made once, in the pool, and attached again and again under other ids; some are made for
 * one act. Most acts are valid, so that there is something to attack. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../c/descriptors.h"
#include "hostile.h"

#define SEALED    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define HUGE_PAGE ((uint64_t)2 << 20)
#define LARGEST   ((uint64_t)INT64_MAX)
#define PAGE      4096u

static uint32_t below(mutator *m, uint32_t limit) {
    return hostile_below(&m->random, limit);
}

/* ---- the pool ---- */

static const uint64_t good_sizes[POOL_GOOD] = {1, 4096, 5000, 65536, 1u << 20};

static int new_memory(uint64_t size, unsigned flags, int seals, bool backed) {
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (fd < 0)
        return -1;
    check(ftruncate(fd, (off_t)size) == 0);
    if (backed)
        check(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0);
    check(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

void mutator_init(mutator *m, uint64_t seed) {
    memset(m, 0, sizeof *m);
    m->random = seed;
    for (int i = 0; i < POOL_GOOD; i++)
        m->good[i] = new_memory(good_sizes[i], 0, SEALED, true);
    int pipe_fds[2];
    check(pipe2(pipe_fds, O_CLOEXEC) == 0);
    close(pipe_fds[1]);
    const struct {
        int fd;
        uint64_t size;
    } bad[POOL_BAD] = {
        {new_memory(4096, 0, F_SEAL_SHRINK | F_SEAL_SEAL, true), 4096},
        {new_memory(4096, 0, F_SEAL_SHRINK | F_SEAL_GROW, true), 4096},
        {new_memory(4096, 0, F_SEAL_GROW | F_SEAL_SEAL, true), 4096},
        {new_memory(4096, 0, 0, true), 4096}, /* resized by an act */
        {new_memory(4096, 0, SEALED | F_SEAL_WRITE, true), 4096},
        {new_memory(HUGE_PAGE, MFD_HUGETLB, SEALED, false), HUGE_PAGE},
        {new_memory((uint64_t)1 << 36, 0, SEALED, false), (uint64_t)1 << 36},
        {new_memory(LARGEST, 0, SEALED, false), LARGEST},
        {new_memory(0, 0, SEALED, false), 0},
        {open_again(new_memory(4096, 0, SEALED, true), O_RDONLY), 4096},
        {open_again(new_memory(4096, 0, SEALED, true), O_PATH), 4096},
        {open("/dev/zero", O_RDWR | O_CLOEXEC), 0},
        {open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 4096},
        {open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 4096},
        {pipe_fds[0], 4096},
        {piso__event_create(), 0},
    };
    for (int i = 0; i < POOL_BAD; i++) {
        m->bad[i] = bad[i].fd;
        m->bad_sizes[i] = bad[i].size;
    }
}

void mutator_fini(mutator *m) {
    for (int i = 0; i < POOL_GOOD; i++)
        close(m->good[i]);
    for (int i = 0; i < POOL_BAD; i++)
        if (m->bad[i] >= 0)
            close(m->bad[i]);
}

/* ---- what the host said ---- */

static void note(notes *list, uint64_t value) {
    if (list->count < NOTES)
        list->values[list->count++] = value;
}

static uint64_t noted(mutator *m, const notes *list) {
    return list->count ? list->values[below(m, list->count)] : 0;
}

static void unnote(notes *list, uint64_t value) {
    for (uint32_t i = 0; i < list->count; i++)
        if (list->values[i] == value)
            list->values[i] = list->values[--list->count];
}

/* note_latest: replaces an earlier value if the list is full. */
static void note_latest(mutator *m, notes *list, uint64_t value) {
    if (list->count == NOTES)
        list->values[below(m, NOTES)] = value;
    else
        note(list, value);
}

static void note_objects(mutator *m, const uint8_t *body, size_t body_size) {
    piso_reader r = {body, body + body_size};
    piso_item item;
    piso_reference reference = {.size = sizeof reference};
    while (piso_read(&r, &item) == 1)
        if (piso_read_reference(&item, &reference) == 0 && reference.kind != PISO_REFERENCE_HOME)
            note_latest(m, &m->objects, reference.object);
}

uint32_t mutator_object(mutator *m) {
    if (m->objects.count && below(m, 4))
        return (uint32_t)noted(m, &m->objects);
    uint32_t generation = below(m, 2) ? below(m, 8) : below(m, 1u << 15);
    return PISO_OBJECT_REFERENCED | generation << 16 | below(m, 2 * HOST_OBJECTS);
}

void mutator_note(mutator *m, const piso__frame *frame, const uint8_t *spans, const uint8_t *body, size_t body_size) {
    if (frame->type == PISO__FRAME_ATTACH) {
        note(&m->theirs, frame->method);
        note(&m->announced, frame->method);
    }
    if (frame->type == PISO__FRAME_RETIRE)
        note(&m->retired, frame->method);
    for (uint32_t i = 0; i < frame->nspans; i++) {
        piso_span span;
        piso__span_decode(spans + i * PISO__SPAN_SIZE, &span);
        if (span.segment == PISO__SEGMENT_LEASE)
            note_latest(m, &m->leases, span.offset);
    }
    if (frame->type <= PISO__FRAME_ERROR && !(frame->flags & PISO__FRAME_BODY_SPAN))
        note_objects(m, body, body_size);
}

/* ---- frames and packets ---- */

typedef struct packet {
    uint32_t id, zero;
    uint64_t size;
} packet;

static bool send_frame(mutator *m, piso__frame_type type, uint32_t id) {
    uint8_t data[PISO__FRAME_SIZE];
    piso__frame frame = {.type = (uint8_t)type, .method = id};
    piso__frame_encode(&frame, data);
    return mutator_send(m, data, sizeof data);
}

static bool is_attached(const mutator *m, uint32_t id) {
    return id < IDS && m->attached[id];
}

/* some_id: returns an id of ours that is attached, or is not; 0: there is none. */
static uint32_t some_id(mutator *m, bool attached) {
    uint32_t start = 1 + below(m, IDS - 1);
    for (uint32_t i = 0; i < IDS - 1; i++) {
        uint32_t id = 1 + (start + i) % (IDS - 1);
        if (is_attached(m, id) == attached)
            return id;
    }
    return 0;
}

static uint32_t odd_id(mutator *m) {
    static const uint32_t odd[] = {
        0, 1, IDS, 65535, 65536, 65537, PISO__SEGMENT_LEASE, PISO__SEGMENT_YOURS, PISO_SPAN_RETURNED, UINT32_MAX};
    return below(m, 2) ? odd[below(m, sizeof odd / sizeof *odd)] : below(m, IDS + 8);
}

/* send_packet: does not wait for room, which the host makes only for announced packets. */
static bool send_packet(mutator *m, const packet *p, size_t size, const int *fds, int count) {
    return piso__send_fds(m->session->channel->socket_fd, p, size, fds, count) == 0;
}

void act_attach(mutator *m) {
    uint32_t id = some_id(m, false);
    if (m->owed) {
        m->attached[m->owed] = send_frame(m, PISO__FRAME_ATTACH, m->owed);
        m->owed = m->attached[m->owed] ? 0 : m->owed;
        return;
    }
    if (!id)
        return;
    uint32_t which = below(m, POOL_GOOD + 1);
    int fresh = which == POOL_GOOD ? new_memory(PAGE, 0, SEALED, true) : -1;
    int fd = fresh >= 0 ? fresh : m->good[which];
    uint64_t size = fresh >= 0 ? PAGE : good_sizes[which];
    packet p = {id, 0, size};
    piso__allocate(fd, size); /* holes may have been punched */
    if (send_packet(m, &p, sizeof p, &fd, 1)) {
        m->sizes[id] = size;
        m->attached[id] = send_frame(m, PISO__FRAME_ATTACH, id);
        m->owed = m->attached[id] ? 0 : id;
    }
    if (fresh >= 0)
        close(fresh);
}

/* attach_bad_memory: everything is as announced, but the memory must not be mapped. */
static void attach_bad_memory(mutator *m) {
    const piso__channel *c = m->session->channel;
    uint32_t id = some_id(m, false), which = below(m, POOL_BAD + 3);
    int own[3] = {c->memory_fd, c->bell, c->socket_fd};
    int fd = which < POOL_BAD ? m->bad[which] : own[which - POOL_BAD];
    uint64_t size = which < POOL_BAD ? m->bad_sizes[which] : (uint64_t)piso__memfd_size(fd);
    packet p = {id, 0, below(m, 4) ? size : (uint64_t)1 << 63};
    if (fd >= 0 && send_packet(m, &p, sizeof p, &fd, 1))
        send_frame(m, PISO__FRAME_ATTACH, id);
}

void act_attach_wrongly(mutator *m) {
    uint32_t id = some_id(m, false), frames = 1, packets = 1;
    int fds[PISO__FDS_MAX], count = 1, which = (int)below(m, POOL_GOOD);
    for (int i = 0; i < PISO__FDS_MAX; i++)
        fds[i] = m->good[which];
    packet p[2] = {{id, 0, good_sizes[which]}};
    size_t size = sizeof p[0];
    switch (below(m, 12)) {
    case 0:
        p[0].size = below(m, 2) ? (uint64_t)1 << below(m, 64) : 0;
        break;
    case 1:
        p[0].id = odd_id(m);
        break;
    case 2:
        p[0].zero = 1 + below(m, 100);
        break;
    case 3:
        count = below(m, 2) ? 0 : PISO__FDS_MAX - (int)below(m, 4);
        break;
    case 4:
        size = 1 + below(m, sizeof p);
        break;
    case 5:
        packets = 0;
        break;
    case 6:
        packets = 2 + below(m, 3);
        break;
    case 7:
        frames = below(m, 4);
        break;
    case 8:
        id = p[0].id = odd_id(m);
        break;
    case 9:
        id = p[0].id = some_id(m, true); /* twice */
        break;
    default:
        attach_bad_memory(m);
        return;
    }
    bool frame_first = below(m, 8) == 0;
    for (uint32_t i = 0; frame_first && i < frames; i++)
        send_frame(m, PISO__FRAME_ATTACH, id);
    for (uint32_t i = 0; i < packets; i++)
        send_packet(m, p, size, fds, count);
    for (uint32_t i = 0; !frame_first && i < frames; i++)
        send_frame(m, PISO__FRAME_ATTACH, id);
}

void act_retire(mutator *m) {
    uint32_t id = some_id(m, true);
    if (id && send_frame(m, PISO__FRAME_RETIRE, id))
        m->attached[id] = false;
}

void act_retire_wrongly(mutator *m) {
    uint32_t id = below(m, 2) ? some_id(m, false) : odd_id(m);
    for (uint32_t i = 1 + below(m, 2); i > 0; i--)
        send_frame(m, below(m, 3) ? PISO__FRAME_RETIRE : PISO__FRAME_RETIRED, id);
    if (id < IDS)
        m->attached[id] = false;
}

/* act_acknowledge: sends what the host waits for, whether or not the descriptor was taken out of the socket. */
void act_acknowledge(mutator *m) {
    int fd;
    packet p;
    mutator_read(m);
    if (m->announced.count) {
        uint32_t id = (uint32_t)m->announced.values[--m->announced.count];
        if (below(m, 4) && piso__receive_fds(m->session->channel->socket_fd, &p, sizeof p, &fd, 1, true) == 0)
            close(fd);
        send_frame(m, below(m, 8) ? PISO__FRAME_ATTACHED : PISO__FRAME_REFUSED, id);
    } else if (m->retired.count) {
        uint32_t id = (uint32_t)m->retired.values[--m->retired.count];
        unnote(&m->theirs, id);
        send_frame(m, PISO__FRAME_RETIRED, id);
    }
}

void act_acknowledge_wrongly(mutator *m) {
    uint32_t id = below(m, 2) ? (uint32_t)noted(m, &m->theirs) : 1 + below(m, IDS);
    static const piso__frame_type types[] = {PISO__FRAME_ATTACHED, PISO__FRAME_REFUSED, PISO__FRAME_RETIRED};
    send_frame(m, types[below(m, 3)], id);
}

/* ---- spans ---- */

static piso_span right_span(mutator *m) {
    uint32_t id = some_id(m, true);
    bool theirs = !id || (m->theirs.count && below(m, 4) == 0);
    uint64_t size = theirs ? 1 : m->sizes[id];
    if (theirs)
        id = (uint32_t)noted(m, &m->theirs) | PISO__SEGMENT_YOURS;
    uint64_t offset = below(m, (uint32_t)size), length = 1 + below(m, (uint32_t)(size - offset));
    return (piso_span){.segment = id, .offset = offset, .length = length};
}

static piso_span wrong_span(mutator *m) {
    piso_span span = right_span(m);
    switch (below(m, 5)) {
    case 0:
        span.segment = odd_id(m) | (below(m, 2) ? PISO__SEGMENT_YOURS : 0);
        break;
    case 1:
        span.offset = (uint64_t)1 << below(m, 64);
        break;
    case 2:
        span.length = below(m, 2) ? 0 : UINT64_MAX - below(m, 3);
        break;
    case 3:
        span.generation = 1;
        break;
    default: /* both as large as possible, together one too many */
        span.offset = below(m, 2) ? INT64_MAX : span.offset;
        span.length = UINT64_MAX - span.offset + below(m, 2);
    }
    return span;
}

static piso_span lease_span(mutator *m, bool right) {
    piso_span span = {.segment = PISO__SEGMENT_LEASE, .offset = 1 + below(m, 1000)};
    if (!right)
        *(below(m, 2) ? &span.offset : &span.length) ^= span.offset;
    return span;
}

/* send_in_table: sends the same message with its spans in a buffer. */
static void send_in_table(mutator *m, piso__frame f, const uint8_t *spans, bool right) {
    uint8_t data[PISO__FRAME_SIZE + PISO__SPAN_SIZE + 1];
    piso_span table;
    void *to;
    size_t size = f.nspans * (size_t)PISO__SPAN_SIZE;
    if (piso_session_alloc(m->session, size, &table, &to) < 0)
        return;
    memcpy(to, spans, size);
    piso__arena_lend(m->session->channel->arena, table.offset, table.generation);
    if (!right && below(m, 2))
        table.length = below(m, 2) ? 1 + below(m, 100) : (uint64_t)PISO__SPAN_SIZE << below(m, 40);
    f.flags |= PISO__FRAME_SPAN_TABLE;
    f.nspans = 1;
    piso__frame_encode(&f, data);
    piso__span_encode(&table, data + PISO__FRAME_SIZE);
    data[PISO__FRAME_SIZE + PISO__SPAN_SIZE] = 0xc0;
    mutator_send(m, data, sizeof data);
}

/* send_spans: sends a call, or a reply to a call of the host. */
static void send_spans(mutator *m, bool right) {
    uint8_t data[PISO__FRAME_SIZE + 4 * PISO__SPAN_SIZE + 1], *at = data + PISO__FRAME_SIZE;
    piso__frame f = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY, .nspans = (uint16_t)(1 + below(m, 4))};
    uint64_t answered = below(m, 3) == 0 ? mutator_read(m) : 0;
    if (answered)
        f = (piso__frame){.type = PISO__FRAME_REPLY, .nspans = f.nspans, .id = answered};
    piso__frame_encode(&f, data);
    for (int i = 0; i < f.nspans; i++, at += PISO__SPAN_SIZE) {
        bool good = right || i + 1 < f.nspans;
        piso_span span = below(m, 4) == 0 ? lease_span(m, good) : good ? right_span(m) : wrong_span(m);
        piso__span_encode(&span, at);
    }
    *at++ = 0xc0;
    if (below(m, 4) == 0)
        send_in_table(m, f, data + PISO__FRAME_SIZE, right);
    else
        mutator_send(m, data, (size_t)(at - data));
}

void act_name(mutator *m) {
    if (some_id(m, true) || m->theirs.count)
        send_spans(m, true);
}

void act_name_wrongly(mutator *m) {
    send_spans(m, false);
}

/* ---- leases ---- */

void act_end_leases(mutator *m) {
    uint8_t data[PISO__FRAME_SIZE + 512 * PISO__LEASE_SIZE];
    uint32_t count = below(m, 16) ? 1 + below(m, 4) : 512;
    piso__frame f = {.type = PISO__FRAME_END_LEASES};
    piso__frame_encode(&f, data);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id = below(m, 4) ? noted(m, &m->leases) : (uint64_t)below(m, 4) << 32 | below(m, 100);
        memcpy(data + PISO__FRAME_SIZE + i * PISO__LEASE_SIZE, &id, sizeof id);
    }
    mutator_send(m, data, PISO__FRAME_SIZE + count * PISO__LEASE_SIZE);
}

/* ---- the memory itself ---- */

void act_on_memory(mutator *m) {
    uint32_t which = below(m, POOL_GOOD);
    uint64_t value = hostile_random(&m->random), at = below(m, (uint32_t)good_sizes[which]);
    switch (below(m, 4)) {
    case 0:
        piso__punch(m->good[which], at & ~(uint64_t)(PAGE - 1), PAGE << below(m, 4));
        break;
    case 1:
        check(ftruncate(m->good[which], (off_t)at) < 0 || at == good_sizes[which]);
        check(ftruncate(m->good[which], (off_t)(good_sizes[which] + 1 + at)) < 0);
        break;
    case 2: /* the one that is not sealed, which nobody may have accepted */
        check(ftruncate(m->bad[3], below(m, 2) ? 0 : 4096) == 0);
        break;
    default:
        if (good_sizes[which] >= at + sizeof value && pwrite(m->good[which], &value, sizeof value, (off_t)at) < 0)
            check(!"memory that can be written");
    }
}

/* act_fill_socket: sends packets that no frame announces, as many as there is room for. */
void act_fill_socket(mutator *m) {
    packet p = {1 + below(m, IDS - 1), 0, good_sizes[0]};
    for (int i = 0; i < 400 && send_packet(m, &p, sizeof p, m->good, 1); i++)
        ;
}
