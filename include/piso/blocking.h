/* blocking.h - calls that wait for their answer, by any number of threads on one session, and who gets all other events.
 *
 * One of the threads takes the session's events, for all of them: each gets its own answer, and what is no answer goes to
 * the session's handler. Whoever uses these functions on a session leaves piso_session_next to them. */
#ifndef PISO_BLOCKING_H
#define PISO_BLOCKING_H

#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/event.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_event_handler: gets an event that nobody waits for: a request, its cancellation, the answer to piso_session_call, the
 * end of a segment or lease. It may take spans out, send, and call; the event is ended when it returns. It runs in one of
 * the threads that wait, several at once for several events, without a lock; `parent` is not known. */
typedef void (*piso_event_handler)(void *context, piso_event *event);

/* piso_session_on_event: from now on the session's handler; NULL: none, as at first: then requests are answered with
 * NotImplementedError, and the rest is dropped. Before other threads use the session. */
PISO_API void piso_session_on_event(piso_session *s, piso_event_handler handler, void *context);

/* piso_session_call_wait: piso_session_call, and its answer. Blocks up to timeout_ns (-1: for ever); signals do not end it.
 * 0: *ret_event is a PISO_EVENT_REPLY or PISO_EVENT_ERROR, for the caller to end by piso_event_fini. -ETIMEDOUT: the peer
 * was told to cancel; PISO_EDIED, PISO_ECLOSED, PISO_EPROTO: the session has ended; what piso_session_call returns: nothing
 * was sent. Handlers may call it, and then it waits inside of them. */
PISO_API int piso_session_call_wait(piso_session *s, uint32_t object, uint32_t method, unsigned flags, uint64_t parent,
                                    int64_t timeout_ns, piso_writer *w, piso_event *ret_event);

/* piso_session_serve: has events handled for timeout_ns (-1: until the session ends; 0: those that are there), while no
 * thread waits in piso_session_call_wait. For a thread that does nothing else, and for event loops, when piso_session_fd is
 * readable. 0; a negative code when the session has ended. */
PISO_API int piso_session_serve(piso_session *s, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
