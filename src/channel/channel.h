/* channel.h - the connection of two processes: two rings, two arenas, two doorbells, one socket.
 *
 * The host creates everything: one sealed sparse memfd with both rings and the arenas of both directions, a
 * pair of doorbells, and a SOCK_SEQPACKET pair. The child inherits only its end of the socket. It receives the
 * rest through it with a HELLO packet, which carries magic, protocol version and sizes, and answers with the
 * same HELLO when it has mapped the memory. The receiver of an array may write to it, so both arenas are mapped
 * writable in both processes; only the sender allocates. Afterwards the socket carries descriptors of shared
 * segments (session/segments.c), and its hang-up reports the peer's end.
 *
 * A host has many channels and few descriptors. A channel keeps four: the doorbell, the socket, the memory, and
 * an epoll. The memory's descriptor serves to give pages back, and to see how many pages of the peer's buffers
 * exist: touching a missing page would allocate memory on this side's account. This side wakes itself by a
 * beacon in the epoll (os.h).
 *
 * Rules:
 *   (1) Every descriptor is close-on-exec. A forked process closes it before anything else runs there, so no child
 *       of this process keeps open a connection that hangs up here.
 *   (2) The child checks the sizes against the fixed protocol.
 *   (3) The host's forks do not inherit the mappings (MADV_DONTFORK).
 *   (4) close releases everything, in any half-built state.
 *
 * Not thread-safe except where stated. */
#ifndef PISO_CHANNEL_CHANNEL_H
#define PISO_CHANNEL_CHANNEL_H

#include <sys/types.h>

#include "memory/arena.h"
#include "memory/ring.h"
#include "os/os.h"

#define PISO__CHANNEL_MAGIC   0x4f534950u /* "PISO" */
#define PISO__CHANNEL_VERSION 2u

/* The layout of the memory: the rings; then, on a boundary of large pages, the host's arena; then the child's. */
#define PISO__CONTROL_SIZE (2 * sizeof(piso__ring_shared))
#define PISO__ARENAS_AT    ((uint64_t)2 << 20)

typedef struct piso__channel {
    piso__ring_producer tx;
    piso__ring_consumer rx;
    piso__arena *arena;    /* buffers that this side sends */
    piso__arena_view peer; /* buffers that the peer sends */
    int bell;              /* writing rings the peer; readable when the peer has rung */
    /* an epoll, readable when the peer or this side itself has rung; the session adds the peer's end */
    int wait_fd;
    int socket_fd;             /* hangs up when the peer's process, and every other holder of its end, is gone */
    piso__beacon_pair beacons; /* in the epoll, disabled; `ended` belongs to the session */
    /* private */
    bool own_rung;
    int memory_fd;
    uint8_t *memory;       /* its mapping, or NULL */
    uint64_t arena_size;   /* of each direction */
    uint64_t peer_at;      /* where the peer's arena begins in the memory */
    uint32_t accepts;      /* how many requests this side answers at once */
    uint32_t peer_accepts; /* how many the peer answers at once; known after accept or attach */
    uint32_t fork_generation;
    struct piso__channel *next, **previous; /* in the list of open channels; `previous` NULL: not in the list */
} piso__channel;

/* piso__channel_arena_at: returns where the arena of a direction begins in the memory. 0: the host sends; 1:
 * the child. */
static inline uint64_t piso__channel_arena_at(const piso__channel *c, int direction) {
    return PISO__ARENAS_AT + (direction ? c->arena_size : 0);
}

/* piso__channel_create: makes the host's end, which answers `accepts` requests at once. arena_size 0 means the
 * default, which is halved, down to 256 MiB, while that much address space cannot be mapped. The child's socket
 * is returned close-on-exec (the spawner dup2s it). The HELLO packet is already sent and waits in the socket. */
int piso__channel_create(const char *name, uint64_t arena_size, uint32_t accepts, piso__channel **ret_channel,
                         int *ret_child_fd);
/* piso__channel_accept: reads the child's answer. 0; -EAGAIN when it has not come yet (wait on socket_fd);
 * PISO_EDIED when the socket hung up; PISO_EPROTO; PISO_EOLDER or PISO_ENEWER when the child speaks another
 * version. */
int piso__channel_accept(piso__channel *c);
/* piso__channel_attach: makes the child's end. Takes socket_fd on success. Blocks for the HELLO. */
int piso__channel_attach(int socket_fd, uint32_t accepts, piso__channel **ret_channel);
/* piso__channel_ring_self: wakes the threads that sleep on this side. piso__channel_clear_bells: clears the rings
 * of the peer and of this side, and returns false once the peer has closed its end of the bell. Neither blocks.
 * Both need the same lock. */
void piso__channel_ring_self(piso__channel *c);
bool piso__channel_clear_bells(piso__channel *c);
/* piso__channel_backed: returns an upper bound of the bytes of the peer's arena that are backed by memory.
 * piso__channel_has_hole: whether some page of a range in that arena is missing. */
uint64_t piso__channel_backed(const piso__channel *c);
bool piso__channel_has_hole(const piso__channel *c, uint64_t offset, uint64_t size);
/* piso__channel_hang_up: closes the descriptors. The mappings stay. No thread may wait for one of the
 * descriptors, or begin to. */
void piso__channel_hang_up(piso__channel *c);
/* piso__channel_close: releases everything and returns NULL. A process forked from the one that opened the
 * channel has neither its mappings nor its descriptors: there it does not touch what is at these addresses and
 * descriptors now. */
piso__channel *piso__channel_close(piso__channel *c);

#endif
