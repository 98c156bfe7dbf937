/* session.h - sessions: how they begin and end, and their state. */
#ifndef PISO_SESSION_H
#define PISO_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/process.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_session_spawn: creates the channel, starts the child (or has a zygote fork it), and returns the host's
 * end. The child has its own process group, inherits no other descriptor, reads stdin from /dev/null, and its
 * output is captured. Does not wait for the child's handshake; piso_session_handshake does. With a sandbox,
 * files and system calls are confined before the program runs, or it does not run: PISO_ESANDBOX. */
PISO_API int piso_session_spawn(const piso_spawn *spawn, piso_session **ret_session);

/* piso_session_handshake: waits until the child has attached. Blocks up to timeout_ns (-1: for ever).
 * 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED, PISO_EPROTO. */
PISO_API int piso_session_handshake(piso_session *s, int64_t timeout_ns);

/* piso_session_attach: makes the child's end from the descriptor in PISO_FD. Blocks until it has read the
 * host's handshake. From then on the kernel kills this process (and its process group) when the host dies. */
PISO_API int piso_session_attach(int channel_fd, piso_session **ret_session);

/* piso_session_pair: makes both ends in one process, for tests and benchmarks. arena_size is as in piso_spawn. */
PISO_API int piso_session_pair(size_t arena_size, piso_session **ret_host, piso_session **ret_child);

PISO_API piso_session *piso_session_ref(piso_session *s);
PISO_API piso_session *piso_session_unref(piso_session *s); /* the last reference closes it */

/* piso_session_close: ends the session: no more calls are made, the peer is told, and pending calls fail with
 * PISO_ECLOSED at the next piso_session_next. The process is not touched. */
PISO_API void piso_session_close(piso_session *s);

/* piso_session_disconnect: closes the descriptors of a session that has ended, which otherwise happens with the
 * last reference. They are closed as soon as no thread is in piso_session_wait or piso_session_handshake, or
 * keeps piso_session_fd. Blocks up to timeout_ns for these. Received buffers stay valid. 1; 0 when the time was
 * over first; -EBUSY while the session works. */
PISO_API int piso_session_disconnect(piso_session *s, int64_t timeout_ns);
/* piso_session_keep_fd: while it is kept, piso_session_fd stays open. Each call with `keep` true needs one with
 * `keep` false. A caller that gives the descriptor to an event loop must keep it before. */
PISO_API void piso_session_keep_fd(piso_session *s, bool keep);

/* piso_session_state: returns 0 while the session works, else the PISO_E code that it failed with. Only reads
 * memory. */
PISO_API int piso_session_state(const piso_session *s);

/* piso_session_fault: returns what the peer did wrong, after PISO_EPROTO, else NULL. The text is valid while
 * the session exists. */
PISO_API const char *piso_session_fault(const piso_session *s);

/* piso_session_reject: reports that a body from the peer is malformed. The session ends with PISO_EPROTO.
 * piso_session_fault will return a copy of `fault`, cut to the available room. Any thread may call it. */
PISO_API void piso_session_reject(piso_session *s, const char *fault);

/* piso_session_arena_size: returns the bytes of each direction's arena, which is how much the peer can send at
 * once. */
PISO_API uint64_t piso_session_arena_size(const piso_session *s);

/* piso_session_process: returns the child's process, borrowed. NULL on the child's side and for pairs. */
PISO_API piso_process *piso_session_process(piso_session *s);

/* piso_stats: the counters of a session. */
typedef struct piso_stats {
    size_t size; /* sizeof(piso_stats) */
    uint64_t calls_sent, calls_received, replies_sent, replies_received;
    uint64_t doorbells_rung;              /* system calls made to wake the peer */
    uint64_t yields;                      /* how often waiting threads yielded the processor */
    uint64_t arena_live, arena_committed; /* bytes of this side's arena: in use; backed by memory */
    uint64_t spans_held;                  /* received and not yet released */
    uint64_t queued;                      /* messages waiting because the ring is full */
    uint64_t segments;                    /* that this session knows, from both sides */
    uint64_t leases_given, leases_held;   /* leases of this side, and of the peer, that have not ended */
} piso_stats;
PISO_API int piso_session_stats(piso_session *s, piso_stats *ret_stats);

/* piso_session_progress: returns how many ring slots this side has filled since the start, and how many of them
 * the peer reports as taken. The peer reports late, but always before it sleeps. A peer that does not take what
 * is there is stuck. Takes no event and sends nothing. */
PISO_API void piso_session_progress(piso_session *s, uint64_t *ret_sent, uint64_t *ret_taken);

#ifdef __cplusplus
}
#endif

#endif
