/* channel.h - what joins two processes: two rings, two arenas, two doorbells, one socket.
 *
 * The host creates everything: a sealed control memfd with both rings, one sealed sparse memfd for each
 * direction's arena, a pair of doorbells, and a SOCK_SEQPACKET pair. The child inherits one end of
 * the socket only; it receives the rest over it with a HELLO that carries magic, protocol version and sizes,
 * and answers with the same HELLO when it has mapped them. A received array is writable and its own, so both arenas are
 * mapped writable in both processes; only the sender allocates. The socket then carries descriptors of shared segments
 * (session/segments.c), and its hang-up tells of the end.
 *
 * Rules: (1) every descriptor is close-on-exec; (2) the child's sizes are checked against the fixed protocol;
 * (3) mappings are not inherited by fork in the host (MADV_DONTFORK); (4) close releases everything, in any
 * half-built state. Not thread-safe except where said. */
#ifndef PISO_CHANNEL_CHANNEL_H
#define PISO_CHANNEL_CHANNEL_H

#include <sys/types.h>

#include "memory/arena.h"
#include "memory/ring.h"

#define PISO__CHANNEL_MAGIC   0x4f534950u /* "PISO" */
#define PISO__CHANNEL_VERSION 2u

typedef struct piso__channel {
    piso__ring_producer tx;
    piso__ring_consumer rx;
    piso__arena *arena;    /* buffers this side sends */
    piso__arena_view peer; /* buffers the peer sends */
    int peer_fd;           /* the memfd of these; borrowed from arena_fds */
    int bell;              /* rings the peer; readable when the peer has rung */
    int own_bell;          /* an eventfd: this side rings itself */
    bool own_rung;
    int socket_fd; /* hang-up: the peer's process (or everything holding it) is gone */
    /* private */
    int control_fd, arena_fds[2]; /* [0]: host sends, [1]: child sends; -1 once mapped, but for what this side sends */
    void *control;
    void *arena_bases[2];
    uint64_t arena_size;
    uint32_t accepts;      /* requests that this side answers at once; what the peer says of itself: */
    uint32_t peer_accepts; /* known after accept or attach */
    uint32_t fork_generation;
} piso__channel;

/* piso__channel_create: the host's end, which answers `accepts` requests at once. arena_size 0: the default; when that much address space cannot be
 * mapped and it was the default, halves it down to 1 GiB. The child's socket is returned close-on-exec (the
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
/* piso__channel_close: in a process forked from the one that opened it, mappings are not there: they are left
 * alone, whatever lies at their addresses now. */
piso__channel *piso__channel_close(piso__channel *c);

#endif
