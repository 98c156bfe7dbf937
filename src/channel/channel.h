/* channel.h - what joins two processes: two rings, two arenas, two doorbells, one socket.
 *
 * The host creates everything: one sealed sparse memfd with both rings and both directions' arenas, a pair of doorbells,
 * and a SOCK_SEQPACKET pair. The child inherits one end of the socket only; it receives the rest over it with a HELLO that
 * carries magic, protocol version and sizes, and answers with the same HELLO when it has mapped the memory. A received
 * array is writable and its own, so both arenas are mapped writable in both processes; only the sender allocates. The
 * socket then carries descriptors of shared segments (session/segments.c), and its hang-up tells of the end.
 *
 * A host has many channels, and its descriptors are few. A channel keeps four: the doorbell, the socket, the memory (to
 * give pages back, and to see how many a peer has behind its buffers: what is not there must not be touched, or it
 * would take memory of this side's) and an epoll. What this side tells itself is a beacon in the epoll (os.h).
 *
 * Rules: (1) every descriptor is close-on-exec, and closed in a forked process before anything else runs there: what
 * hangs up here is not held open by a child of this process; (2) the child's sizes are checked against the fixed protocol;
 * (3) mappings are not inherited by fork in the host (MADV_DONTFORK); (4) close releases everything, in any
 * half-built state. Not thread-safe except where said. */
#ifndef PISO_CHANNEL_CHANNEL_H
#define PISO_CHANNEL_CHANNEL_H

#include <sys/types.h>

#include "memory/arena.h"
#include "memory/ring.h"
#include "os/os.h"

#define PISO__CHANNEL_MAGIC   0x4f534950u /* "PISO" */
#define PISO__CHANNEL_VERSION 2u

/* Where things are in the memory: the rings, then, on a boundary of large pages, the host's arena, then the child's. */
#define PISO__CONTROL_SIZE (2 * sizeof(piso__ring_shared))
#define PISO__ARENAS_AT    ((uint64_t)2 << 20)

typedef struct piso__channel {
    piso__ring_producer tx;
    piso__ring_consumer rx;
    piso__arena *arena;    /* buffers this side sends */
    piso__arena_view peer; /* buffers the peer sends */
    int bell;              /* rings the peer; readable when the peer has rung */
    int wait_fd;   /* an epoll: readable when the peer has rung, or this side itself; the session adds the peer's end */
    int socket_fd; /* hang-up: the peer's process (or everything holding it) is gone */
    piso__beacon_pair beacons; /* in the epoll, switched off; `ended` is the session's */
    /* private */
    bool own_rung;
    int memory_fd;
    uint8_t *memory;       /* as it is mapped; NULL: not */
    uint64_t arena_size;   /* of each direction */
    uint64_t peer_at;      /* where the peer's begins in the memory */
    uint32_t accepts;      /* requests that this side answers at once; what the peer says of itself: */
    uint32_t peer_accepts; /* known after accept or attach */
    uint32_t fork_generation;
    struct piso__channel *next, **previous; /* of those that are open; `previous` NULL: not in the list */
} piso__channel;

/* piso__channel_arena_at: where in the memory the arena of a direction begins; 0: the host sends, 1: the child. */
static inline uint64_t piso__channel_arena_at(const piso__channel *c, int direction) {
    return PISO__ARENAS_AT + (direction ? c->arena_size : 0);
}

/* piso__channel_create: the host's end, which answers `accepts` requests at once. arena_size 0: the default; when that much
 * address space cannot be mapped, it is halved, down to 256 MiB. The child's socket is returned close-on-exec (the
 * spawner dup2s it). The HELLO packet is already sent (it waits in the socket). */
int piso__channel_create(const char *name, uint64_t arena_size, uint32_t accepts, piso__channel **ret_channel,
                         int *ret_child_fd);
/* piso__channel_accept: reads the child's answer. 0; -EAGAIN when it is not there yet (wait on socket_fd);
 * PISO_EDIED when the socket hung up; PISO_EPROTO; PISO_EOLDER, PISO_ENEWER: it speaks another version. */
int piso__channel_accept(piso__channel *c);
/* piso__channel_attach: the child's end; takes socket_fd on success. Blocks for the HELLO. */
int piso__channel_attach(int socket_fd, uint32_t accepts, piso__channel **ret_channel);
/* piso__channel_ring_self: wakes who sleeps on this side; silence: forgets rings, of the peer and of this side, and
 * says false once the peer has closed its end of the bell. Neither blocks; both need the same lock. */
void piso__channel_ring_self(piso__channel *c);
bool piso__channel_silence(piso__channel *c);
/* piso__channel_backed: at most how many bytes of the peer's arena are there. piso__channel_has_hole: whether some page of
 * a range in it is not. */
uint64_t piso__channel_backed(const piso__channel *c);
bool piso__channel_has_hole(const piso__channel *c, uint64_t offset, uint64_t size);
/* piso__channel_hang_up: closes the descriptors; what is mapped stays. Nobody may wait for one of them, or begin to. */
void piso__channel_hang_up(piso__channel *c);
/* piso__channel_close: in a process forked from the one that opened it neither mappings nor descriptors are there: what
 * lies at their addresses, and what their numbers stand for, is left alone. */
piso__channel *piso__channel_close(piso__channel *c);

#endif
