/* wait.h - waiting for events: polling, sleeping, descriptors for event loops. */
#ifndef PISO_WAIT_H
#define PISO_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The peer rings the doorbell (a system call) only when this side has announced that it sleeps. So a thread
 * that waits for events does the following, in this order:
 *
 *     poll_begin          // while any thread polls, the peer need not ring
 *     next / spin ...     // piso_session_spin: bounded, adaptive polling
 *     poll_end            // 1: events came in meanwhile, drain them
 *     sleep_begin         // 1: events are there, do not sleep; 0: the peer will ring
 *     poll(2) on piso_session_fd, or piso_session_wait, or an event loop
 *     sleep_end
 *
 * poll_begin and poll_end enclose short stretches: call poll_end before running code of unknown length. Several
 * threads and loops may be in any of these at once. */
PISO_API bool piso_session_ready(const piso_session *s); /* whether there is an event; only reads memory */
PISO_API void piso_session_poll_begin(piso_session *s);
PISO_API int piso_session_poll_end(piso_session *s);
/* piso_session_look: polls for two microseconds, without yielding. piso_sessions_poll: polls longer if that has
 * paid off lately for the first session: 20 us, yielding the processor between two checks, not counting the
 * time that others keep it; 100 us, without yielding, where the peer had to be woken; 500 us while the peer
 * fills a large buffer. piso_session_spin: both. 1: there is an event of any of the sessions; 0: none came
 * within that time. */
#define PISO_SESSIONS_MAX 30 /* polled, or waited for, at once */
PISO_API int piso_session_look(piso_session *s);
PISO_API int piso_sessions_poll(piso_session *const *sessions, int count);
PISO_API int piso_session_spin(piso_session *s);
PISO_API int piso_session_sleep_begin(piso_session *s);
PISO_API void piso_session_sleep_end(piso_session *s);
/* piso_session_fd: returns a descriptor for poll, epoll and event loops, which is readable when the doorbell
 * rang or the peer died. Level-triggered: piso_session_sleep_end and piso_session_next reset it. */
PISO_API int piso_session_fd(piso_session *s);
/* piso_session_nudge: makes that descriptor readable until the next piso_session_sleep_end. */
PISO_API void piso_session_nudge(piso_session *s);
/* piso_session_wait: sleep_begin, poll, sleep_end. Waits for an event, the peer's death, extra_fd (or -1) to be
 * readable, or timeout_ns (-1: none). 1: event or death; 2: extra_fd; 0: timeout; -EINTR. */
PISO_API int piso_session_wait(piso_session *s, int extra_fd, int64_t timeout_ns);
/* piso_session_wait_polled: the same, but the caller polls when it returns, whatever it returns, as after
 * piso_session_poll_begin. So other sleeping threads are not woken for an event that the caller takes at once. */
PISO_API int piso_session_wait_polled(piso_session *s, int extra_fd, int64_t timeout_ns);
/* piso_sessions_wait: the same as piso_session_wait for several sessions, at most PISO_SESSIONS_MAX. */
PISO_API int piso_sessions_wait(piso_session *const *sessions, int count, int extra_fd, int64_t timeout_ns);

/* ---- the clock ---- */

/* piso_now_ns: returns the time of CLOCK_MONOTONIC. */
PISO_API int64_t piso_now_ns(void);
/* piso_now_coarse_ns: returns the time of the same clock at its last tick, a few milliseconds ago. Costs a
 * fifth. */
PISO_API int64_t piso_now_coarse_ns(void);

#ifdef __cplusplus
}
#endif

#endif
