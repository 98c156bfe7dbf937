/* channel.c - see channel.h. */
#include "channel/channel.h"

#include <stdio.h>
#include <string.h>

#include "os/cgroup.h"
#include "os/os.h"

#define CONTROL_SIZE     (2 * sizeof(piso__ring_shared))
#define SMALLEST_DEFAULT ((uint64_t)1 << 30)
#define FD_COUNT         4

/* The packet that both sides send once. The host's carries the descriptors, in the order of fd_list. Magic and version stay
 * where they are in every version: they are looked at first. */
typedef struct hello {
    uint32_t magic, version;
    uint32_t ring_slots, slot_size;
    uint64_t control_size, arena_size;
    uint32_t accepts, zero; /* requests that the sender answers at once */
} hello;

static hello make_hello(uint64_t arena_size, uint32_t accepts) {
    return (hello){
        .magic = PISO__CHANNEL_MAGIC,
        .version = PISO__CHANNEL_VERSION,
        .ring_slots = PISO__RING_SLOTS,
        .slot_size = sizeof(piso__ring_slot),
        .control_size = CONTROL_SIZE,
        .arena_size = arena_size,
        .accepts = accepts,
    };
}

/* is_right: whether a greeting says what it has to; how many requests the peer answers is its own business. */
static bool is_right(const hello *greeting, uint64_t arena_size) {
    hello expected = make_hello(arena_size, greeting->accepts);
    return greeting->accepts > 0 && memcmp(greeting, &expected, sizeof expected) == 0;
}

/* check_version: of the greeting that comes next. 0, PISO_EOLDER, PISO_ENEWER, -EPROTO, or as piso__peek. */
static int check_version(int socket_fd, bool nonblocking) {
    uint32_t words[2]; /* magic, version */
    int r = piso__peek(socket_fd, words, sizeof words, nonblocking);
    if (r < 0)
        return r;
    if (words[0] != PISO__CHANNEL_MAGIC)
        return -EPROTO;
    return words[1] < PISO__CHANNEL_VERSION ? PISO_EOLDER : words[1] > PISO__CHANNEL_VERSION ? PISO_ENEWER : 0;
}

static piso__channel *channel_new(void) {
    piso__channel *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->bell = c->own_bell = c->socket_fd = c->control_fd = c->arena_fds[0] = c->arena_fds[1] = -1;
    c->fork_generation = piso__fork_generation();
    return c;
}

piso__channel *piso__channel_close(piso__channel *c) {
    if (!c)
        return NULL;
    bool mapped = c->fork_generation == piso__fork_generation();
    piso__arena_free(c->arena);
    if (mapped)
        piso__unmap(c->control, CONTROL_SIZE);
    for (int i = 0; i < 2; i++) {
        if (mapped)
            piso__unmap(c->arena_bases[i], c->arena_size);
        piso__fd_close(c->arena_fds[i]);
    }
    piso__fd_close(c->control_fd);
    piso__fd_close(c->bell);
    piso__fd_close(c->own_bell);
    piso__fd_close(c->socket_fd);
    free(c);
    return NULL;
}

static void close_channel(piso__channel **c) {
    *c = piso__channel_close(*c);
}

/* map_all: maps control and arenas. -ENOMEM when there is not enough address space. */
static int map_all(piso__channel *c) {
    int r = piso__map(c->control_fd, CONTROL_SIZE, true, true, &c->control);
    for (int i = 0; i < 2 && r == 0; i++)
        r = piso__map(c->arena_fds[i], c->arena_size, true, true, &c->arena_bases[i]);
    return r;
}

/* connect_ends: `sends` is the index of the direction in which this side sends: 0 host, 1 child. */
static int connect_ends(piso__channel *c, int sends) {
    piso__ring_shared *rings = c->control;
    piso__ring_producer_init(&c->tx, &rings[sends]);
    piso__ring_consumer_init(&c->rx, &rings[!sends]);
    c->peer = (piso__arena_view){c->arena_bases[!sends], c->arena_size};
    c->peer_fd = c->arena_fds[!sends];
    if (sends == 0) /* a host may have a hundred of them, and what is mapped needs no descriptor */
        c->control_fd = piso__fd_close(c->control_fd);
    return piso__arena_new(c->arena_fds[sends], c->arena_bases[sends], c->arena_size, &c->arena);
}

static int make_memory(piso__channel *c, const char *name, uint64_t arena_size) {
    char label[64];
    c->arena_size = arena_size;
    snprintf(label, sizeof label, "piso-%.40s", name);
    if ((c->control_fd = piso__memfd_create(label, CONTROL_SIZE)) < 0)
        return c->control_fd;
    for (int i = 0; i < 2; i++)
        if ((c->arena_fds[i] = piso__memfd_create(label, arena_size)) < 0)
            return c->arena_fds[i];
    int r = map_all(c);
    if (r == 0 && piso__memory_is_strict())
        r = piso__populate(c->control_fd, c->control, 0, CONTROL_SIZE);
    return r;
}

/* make_bells: `ret_peer` is the other side's end. */
static int make_bells(piso__channel *c, int *ret_peer) {
    int pair[2];
    int r = piso__bell_pair(pair);
    if (r < 0)
        return r;
    c->bell = pair[0];
    *ret_peer = pair[1];
    return (c->own_bell = piso__event_create()) < 0 ? c->own_bell : 0;
}

void piso__channel_ring_self(piso__channel *c) {
    c->own_rung = true;
    piso__event_signal(c->own_bell);
}

bool piso__channel_silence(piso__channel *c) {
    if (c->own_rung)
        piso__event_clear(c->own_bell);
    c->own_rung = false;
    return piso__bell_clear(c->bell);
}

/* try_create: one attempt with a given size of arena. */
static int try_create(const char *name, uint64_t arena_size, uint32_t accepts, piso__channel **ret_channel,
                      int *ret_child_fd) {
    piso__cleanup(close_channel) piso__channel *c = channel_new();
    if (!c)
        return -ENOMEM;
    int r = make_memory(c, name, arena_size);
    piso__autoclose int peer_bell = -1;
    if (r == 0)
        r = make_bells(c, &peer_bell);
    int sockets[2] = {-1, -1};
    if (r == 0)
        r = piso__socketpair(sockets);
    if (r < 0)
        return r;
    c->socket_fd = sockets[0];
    piso__autoclose int child_fd = sockets[1];
    c->accepts = accepts;
    hello greeting = make_hello(arena_size, accepts);
    int fds[FD_COUNT] = {c->control_fd, c->arena_fds[0], c->arena_fds[1], peer_bell};
    r = piso__send_fds(c->socket_fd, &greeting, sizeof greeting, fds, FD_COUNT);
    if (r == 0)
        r = connect_ends(c, 0);
    if (r < 0)
        return r;
    *ret_child_fd = piso__fd_steal(&child_fd);
    *ret_channel = piso__steal_pointer(&c);
    return 0;
}

static uint64_t round_up_to_power(uint64_t size) {
    return size <= PISO__ARENA_MIN_SIZE ? PISO__ARENA_MIN_SIZE : (uint64_t)1 << (64 - __builtin_clzll(size - 1));
}

int piso__channel_create(const char *name, uint64_t arena_size, uint32_t accepts, piso__channel **ret_channel,
                         int *ret_child_fd) {
    bool is_default = arena_size == 0;
    if (arena_size > (uint64_t)1 << 46)
        return -EINVAL;
    uint64_t size = is_default ? PISO__ARENA_DEFAULT_SIZE : round_up_to_power(arena_size);
    int r = try_create(name, size, accepts, ret_channel, ret_child_fd);
    /* address space may be limited: a smaller arena serves most */
    while ((r == -ENOMEM || r == -EFBIG) && is_default && size > SMALLEST_DEFAULT) {
        size /= 2;
        r = try_create(name, size, accepts, ret_channel, ret_child_fd);
    }
    return r;
}

int piso__channel_accept(piso__channel *c) {
    hello answer;
    int r = check_version(c->socket_fd, true);
    if (r == 0)
        r = piso__receive_fds(c->socket_fd, &answer, sizeof answer, NULL, 0, true);
    if (r == -ECONNRESET)
        return PISO_EDIED;
    if (r == -EPROTO || (r == 0 && !is_right(&answer, c->arena_size)))
        return PISO_EPROTO;
    if (r == 0)
        c->peer_accepts = answer.accepts;
    return r;
}

/* memory_fits: whether the descriptors that came are what the greeting says. */
static bool memory_fits(const piso__channel *c) {
    bool is_power = (c->arena_size & (c->arena_size - 1)) == 0;
    return is_power && c->arena_size >= PISO__ARENA_MIN_SIZE && piso__memfd_check(c->control_fd, CONTROL_SIZE) == 0 &&
           piso__memfd_check(c->arena_fds[0], c->arena_size) == 0 &&
           piso__memfd_check(c->arena_fds[1], c->arena_size) == 0;
}

/* receive_greeting: of the host, with its descriptors. A host of another version is told ours. */
static int receive_greeting(int socket_fd, uint32_t accepts, hello *ret_greeting, int ret_fds[FD_COUNT]) {
    int r = check_version(socket_fd, false);
    if (r == PISO_EOLDER || r == PISO_ENEWER) {
        hello ours = make_hello(0, accepts);
        piso__send_fds(socket_fd, &ours, sizeof ours, NULL, 0);
        return r;
    }
    if (r == 0)
        r = piso__receive_fds(socket_fd, ret_greeting, sizeof *ret_greeting, ret_fds, FD_COUNT, false);
    return r == -ECONNRESET ? PISO_EDIED : r == -EPROTO ? PISO_EPROTO : r;
}

int piso__channel_attach(int socket_fd, uint32_t accepts, piso__channel **ret_channel) {
    piso__cleanup(close_channel) piso__channel *c = channel_new();
    if (!c)
        return -ENOMEM;
    hello greeting;
    int fds[FD_COUNT];
    int r = receive_greeting(socket_fd, accepts, &greeting, fds);
    if (r < 0)
        return r;
    c->control_fd = fds[0];
    c->arena_fds[0] = fds[1];
    c->arena_fds[1] = fds[2];
    c->bell = fds[3];
    c->arena_size = greeting.arena_size;
    if (!is_right(&greeting, greeting.arena_size) || !memory_fits(c))
        return PISO_EPROTO;
    c->accepts = accepts;
    c->peer_accepts = greeting.accepts;
    hello answer = make_hello(greeting.arena_size, accepts);
    if ((c->own_bell = piso__event_create()) < 0)
        return c->own_bell;
    r = map_all(c);
    if (r == 0)
        r = connect_ends(c, 1);
    if (r == 0)
        r = piso__fd_cloexec(socket_fd); /* it was inherited; our own children must not keep it open */
    if (r == 0)
        r = piso__send_fds(socket_fd, &answer, sizeof answer, NULL, 0);
    if (r < 0)
        return r == -EPIPE ? PISO_EDIED : r;
    c->socket_fd = socket_fd;
    *ret_channel = piso__steal_pointer(&c);
    return 0;
}
