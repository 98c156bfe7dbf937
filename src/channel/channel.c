/* channel.c - see channel.h. */
#include "channel/channel.h"

#include <stdio.h>
#include <string.h>

#include "os/cgroup.h"
#include "os/os.h"

#define SMALLEST_DEFAULT ((uint64_t)1 << 28)
#define FD_COUNT         2

static_assert(PISO__CONTROL_SIZE <= PISO__ARENAS_AT, "the arenas are behind the rings");
static_assert(PISO__ARENAS_AT % PISO__PAGE_MAX == 0 && PISO__ARENA_MIN_SIZE % PISO__PAGE_MAX == 0,
              "no page is in two arenas");

/* The packet that both sides send once. The host's carries the descriptors of the memory and the bell. Magic
 * and version are at the same place in every version, because they are checked first. */
typedef struct hello {
    uint32_t magic, version;
    uint32_t ring_slots, slot_size;
    uint64_t memory_size, arena_size;
    uint32_t accepts, zero; /* requests that the sender answers at once */
} hello;

static uint64_t memory_size(uint64_t arena_size) {
    return PISO__ARENAS_AT + 2 * arena_size;
}

static hello make_hello(uint64_t arena_size, uint32_t accepts) {
    return (hello){
        .magic = PISO__CHANNEL_MAGIC,
        .version = PISO__CHANNEL_VERSION,
        .ring_slots = PISO__RING_SLOTS,
        .slot_size = sizeof(piso__ring_slot),
        .memory_size = memory_size(arena_size),
        .arena_size = arena_size,
        .accepts = accepts,
    };
}

/* is_valid: whether a greeting is correct. The number of requests that the peer answers is free. */
static bool is_valid(const hello *greeting, uint64_t arena_size) {
    hello expected = make_hello(arena_size, greeting->accepts);
    return greeting->accepts > 0 && memcmp(greeting, &expected, sizeof expected) == 0;
}

/* check_version: checks the greeting that comes next, without consuming it. 0, PISO_EOLDER, PISO_ENEWER,
 * -EPROTO, or what piso__peek returns. */
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
    c->bell = c->wait_fd = c->socket_fd = c->memory_fd = c->beacons.rung = -1;
    c->fork_generation = piso__fork_generation();
    return c;
}

/* close_fd: clears the field, then closes. A child that is forked between the two keeps one descriptor open, at
 * worst; in the opposite order it could close a descriptor of something else. */
static void close_fd(int *fd) {
    piso__fd_close(piso__fd_steal(fd));
}

static void close_fds(piso__channel *c) {
    close_fd(&c->wait_fd);
    close_fd(&c->bell);
    close_fd(&c->socket_fd);
    close_fd(&c->memory_fd);
}

static piso__channel *first; /* head of the list of open channels */

static void close_in_child(void) {
    for (piso__channel *c = first; c; c = c->next) {
        close_fds(c);
        c->previous = NULL;
    }
    first = NULL;
}

PISO__STATIC_LOCK(lock, PISO__PLACE_CHANNELS, .in_child = close_in_child);

static void enlist(piso__channel *c) {
    piso__lock_take(&lock);
    c->next = first;
    c->previous = &first;
    if (first)
        first->previous = &c->next;
    first = c;
    piso__lock_give(&lock);
}

static void unlist(piso__channel *c) {
    piso__lock_take(&lock);
    if (c->previous) {
        *c->previous = c->next;
        if (c->next)
            c->next->previous = c->previous;
    }
    c->previous = NULL;
    piso__lock_give(&lock);
}

void piso__channel_hang_up(piso__channel *c) {
    unlist(c);
    if (c->arena)
        piso__arena_freeze(c->arena);
    close_fds(c);
    if (c->beacons.rung >= 0)
        piso__beacon_give(&c->beacons);
    c->beacons.rung = -1;
}

piso__channel *piso__channel_close(piso__channel *c) {
    if (!c)
        return NULL;
    if (c->fork_generation == piso__fork_generation()) {
        piso__channel_hang_up(c);
        piso__unmap(c->memory, memory_size(c->arena_size));
    }
    piso__arena_free(c->arena);
    free(c);
    return NULL;
}

static void close_channel(piso__channel **c) {
    *c = piso__channel_close(*c);
}

/* map_memory: maps the memory. -ENOMEM when there is not enough address space. */
static int map_memory(piso__channel *c) {
    void *memory;
    int r = piso__map(c->memory_fd, memory_size(c->arena_size), true, true, &memory);
    if (r == 0)
        c->memory = memory;
    return r;
}

/* connect_ends: sets up rings and arenas. `sends` is the index of the direction in which this side sends: 0
 * host, 1 child. */
static int connect_ends(piso__channel *c, int sends) {
    piso__ring_shared *rings = (piso__ring_shared *)(void *)c->memory;
    piso__ring_producer_init(&c->tx, &rings[sends]);
    piso__ring_consumer_init(&c->rx, &rings[!sends]);
    uint64_t own = piso__channel_arena_at(c, sends);
    c->peer_at = piso__channel_arena_at(c, !sends);
    c->peer = (piso__arena_view){c->memory + c->peer_at, c->arena_size};
    return piso__arena_new(c->memory_fd, own, c->memory + own, c->arena_size, &c->arena);
}

static int make_memory(piso__channel *c, const char *name, uint64_t arena_size) {
    char label[64];
    c->arena_size = arena_size;
    snprintf(label, sizeof label, "piso-%.40s", name);
    if ((c->memory_fd = piso__memfd_create(label, memory_size(arena_size))) < 0)
        return c->memory_fd;
    int r = map_memory(c);
    if (r == 0 && piso__memory_is_strict())
        r = piso__populate(c->memory_fd, c->memory, 0, PISO__CONTROL_SIZE);
    return r;
}

/* listen_for_bells: makes the epoll that wakes waiting threads of this side. The bell exists already. */
static int listen_for_bells(piso__channel *c) {
    if ((c->wait_fd = piso__epoll_create()) < 0)
        return c->wait_fd;
    int r = piso__beacon_take(&c->beacons);
    if (r == 0)
        r = piso__epoll_add(c->wait_fd, c->bell, 0);
    if (r == 0)
        r = piso__epoll_add_off(c->wait_fd, c->beacons.rung);
    return r == 0 ? piso__epoll_add_off(c->wait_fd, c->beacons.ended) : r;
}

/* make_bells: makes the doorbells; `ret_peer` gets the other side's end. */
static int make_bells(piso__channel *c, int *ret_peer) {
    int pair[2];
    int r = piso__bell_pair(pair);
    if (r < 0)
        return r;
    c->bell = pair[0];
    *ret_peer = pair[1];
    return listen_for_bells(c);
}

void piso__channel_ring_self(piso__channel *c) {
    if (c->own_rung || c->wait_fd < 0)
        return;
    c->own_rung = true;
    piso__epoll_switch(c->wait_fd, c->beacons.rung, true);
}

bool piso__channel_clear_bells(piso__channel *c) {
    if (c->own_rung && c->wait_fd >= 0)
        piso__epoll_switch(c->wait_fd, c->beacons.rung, false);
    c->own_rung = false;
    return piso__bell_clear(c->bell);
}

uint64_t piso__channel_backed(const piso__channel *c) {
    uint64_t all = piso__memfd_backed(c->memory_fd), own = piso__arena_committed(c->arena);
    return all > own ? all - own : 0;
}

bool piso__channel_has_hole(const piso__channel *c, uint64_t offset, uint64_t size) {
    return piso__memfd_has_hole(c->memory_fd, c->peer_at + offset, size);
}

/* try_create: creates the channel with one arena size. */
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
    piso__fd_make_room(child_fd);
    c->accepts = accepts;
    hello greeting = make_hello(arena_size, accepts);
    int fds[FD_COUNT] = {c->memory_fd, peer_bell};
    r = piso__send_fds(c->socket_fd, &greeting, sizeof greeting, fds, FD_COUNT);
    if (r == 0)
        r = connect_ends(c, 0);
    if (r < 0)
        return r;
    *ret_child_fd = piso__fd_steal(&child_fd);
    enlist(c);
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
    /* address space may be limited; a smaller arena serves most uses */
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
    if (r == -EPROTO || (r == 0 && !is_valid(&answer, c->arena_size)))
        return PISO_EPROTO;
    if (r == 0)
        c->peer_accepts = answer.accepts;
    return r;
}

/* memory_fits: whether the received memory has the size that the greeting states. */
static bool memory_fits(const piso__channel *c) {
    bool is_power = (c->arena_size & (c->arena_size - 1)) == 0;
    return is_power && c->arena_size >= PISO__ARENA_MIN_SIZE && c->arena_size <= (uint64_t)1 << 46 &&
           piso__memfd_check(c->memory_fd, memory_size(c->arena_size)) == 0;
}

/* receive_greeting: receives the host's greeting with its descriptors. A host of another version gets our
 * greeting. */
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
    c->memory_fd = fds[0];
    c->bell = fds[1];
    c->arena_size = greeting.arena_size;
    if (!is_valid(&greeting, greeting.arena_size) || !memory_fits(c))
        return PISO_EPROTO;
    c->accepts = accepts;
    c->peer_accepts = greeting.accepts;
    hello answer = make_hello(greeting.arena_size, accepts);
    r = listen_for_bells(c);
    if (r == 0)
        r = map_memory(c);
    if (r == 0)
        r = connect_ends(c, 1);
    if (r == 0)
        r = piso__fd_cloexec(socket_fd); /* it was inherited; our own children must not keep it open */
    if (r == 0)
        r = piso__send_fds(socket_fd, &answer, sizeof answer, NULL, 0);
    if (r < 0)
        return r == -EPIPE ? PISO_EDIED : r;
    c->socket_fd = socket_fd;
    enlist(c);
    *ret_channel = piso__steal_pointer(&c);
    return 0;
}
