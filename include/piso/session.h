/* session.h - sessions: how they begin and end, and what they tell of themselves. */
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

/* piso_session_spawn: creates the channel, starts the process with it, or has a zygote fork it (its own process group, no
 * other descriptor inherited, stdin from /dev/null, output captured), and returns the host's end. Does not wait
 * for the child's handshake: that happens in piso_session_handshake. With a sandbox, files and system calls
 * are confined before the program runs, or it does not run: PISO_ESANDBOX. */
PISO_API int piso_session_spawn(const piso_spawn *spawn, piso_session **ret_session);

/* piso_session_handshake: waits until the child has attached. Blocks up to timeout_ns (-1: for ever).
 * 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED, PISO_EPROTO. */
PISO_API int piso_session_handshake(piso_session *s, int64_t timeout_ns);

/* piso_session_attach: the child's end, from the descriptor in PISO_FD. Blocks until the host's handshake
 * has been read. From then on the process (and its process group) is killed when the host dies. */
PISO_API int piso_session_attach(int channel_fd, piso_session **ret_session);

/* piso_session_pair: both ends in one process, for tests and benchmarks; arena_size as in piso_spawn. */
PISO_API int piso_session_pair(size_t arena_size, piso_session **ret_host, piso_session **ret_child);

PISO_API piso_session *piso_session_ref(piso_session *s);
PISO_API piso_session *piso_session_unref(piso_session *s); /* closes with the last reference */

/* piso_session_close: no more calls, the peer is told, pending calls fail with PISO_ECLOSED at the next
 * piso_session_next. The process is left alone. */
PISO_API void piso_session_close(piso_session *s);

/* piso_session_disconnect: closes the descriptors of a session that has ended, which else happens with the last reference:
 * as soon as nobody is in piso_session_wait or piso_session_handshake, or keeps piso_session_fd. Blocks up to timeout_ns
 * for these. Buffers that were received stay. 1; 0 when the time was over first; -EBUSY while the session works. */
PISO_API int piso_session_disconnect(piso_session *s, int64_t timeout_ns);
/* piso_session_keep_fd: piso_session_fd stays open until it is not kept any more, as often as it was kept. For whoever
 * gives it to an event loop; to begin with it before. */
PISO_API void piso_session_keep_fd(piso_session *s, bool keep);

/* piso_session_state: 0 while it works, else the PISO_E code it failed with. Cheap; reads memory only. */
PISO_API int piso_session_state(const piso_session *s);

/* piso_session_fault: after PISO_EPROTO, what the peer did wrong, as text that lives as long as the session; else NULL. */
PISO_API const char *piso_session_fault(const piso_session *s);

/* piso_session_reject: for who reads bodies: one of the peer's is malformed, so the session ends with PISO_EPROTO. `fault`
 * is what piso_session_fault will return; it is copied, as far as there is room. Any thread. */
PISO_API void piso_session_reject(piso_session *s, const char *fault);

/* piso_session_arena_size: bytes of each direction's arena: what the peer can send at once. */
PISO_API uint64_t piso_session_arena_size(const piso_session *s);

/* piso_session_process: the child's process, borrowed; NULL on the child's side and for pairs. */
PISO_API piso_process *piso_session_process(piso_session *s);

/* piso_stats: what a session has done and has. */
typedef struct piso_stats {
    size_t size; /* sizeof(piso_stats) */
    uint64_t calls_sent, calls_received, replies_sent, replies_received;
    uint64_t doorbells_rung;              /* system calls made to wake the peer */
    uint64_t yields;                      /* of the processor, while waiting */
    uint64_t arena_live, arena_committed; /* bytes of this side's arena in use; backed by memory */
    uint64_t spans_held;                  /* received and not yet released */
    uint64_t queued;                      /* messages waiting because the ring is full */
    uint64_t segments;                    /* that this session knows, from either side */
    uint64_t leases_given, leases_held;   /* of this side, not yet ended; of the peer, likewise */
} piso_stats;
PISO_API int piso_session_stats(piso_session *s, piso_stats *ret_stats);

/* piso_session_progress: slots of the ring that this side has filled since the start, and how many of them the peer says
 * that it has taken: it says so late, but always before it sleeps. A peer that takes nothing of what is there is stuck.
 * No event is taken and nothing is sent. */
PISO_API void piso_session_progress(piso_session *s, uint64_t *ret_sent, uint64_t *ret_taken);

#ifdef __cplusplus
}
#endif

#endif
