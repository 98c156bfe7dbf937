/* blocking.h - calls that block until their reply, from any number of threads on one session, and a handler for
 * all other events.
 *
 * One of the waiting threads takes the session's events for all of them. Each thread gets its own reply, and
 * events that are no reply go to the session's handler. A program that uses these functions on a session must
 * not call piso_session_next on it. */
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

/* piso_event_handler: handles an event that no thread waits for: a request, its cancellation, the reply to a
 * piso_session_call, the end of a segment or lease. It may take spans out of the event, send, and call.
 * piso_event_fini is called on the event when it returns. It runs in one of the waiting threads, without a
 * lock, and several may run at once for several events. `parent` is NULL. */
typedef void (*piso_event_handler)(void *context, piso_event *event);

/* piso_session_on_event: sets the session's handler. NULL means none, which is the default: requests are then
 * answered with NotImplementedError, and other events are dropped. Must be called before other threads use the
 * session. */
PISO_API void piso_session_on_event(piso_session *s, piso_event_handler handler, void *context);

/* piso_session_call_wait: makes a call as piso_session_call does, and waits for its reply. Blocks up to
 * timeout_ns (-1: for ever); signals do not end it. 0: *ret_event is a PISO_EVENT_REPLY or PISO_EVENT_ERROR,
 * and the caller must call piso_event_fini on it. -ETIMEDOUT: the peer was asked to cancel the call.
 * PISO_EDIED, PISO_ECLOSED, PISO_EPROTO: the session has ended. Any error of piso_session_call: nothing was
 * sent. Handlers may call this function; it then blocks inside the handler. */
PISO_API int piso_session_call_wait(piso_session *s, uint32_t object, uint32_t method, unsigned flags, uint64_t parent,
                                    int64_t timeout_ns, piso_writer *w, piso_event *ret_event);

/* piso_session_serve: handles events for timeout_ns (-1: until the session ends; 0: only those that are there),
 * while no thread waits in piso_session_call_wait. It serves threads that do nothing else, and event loops,
 * which call it when piso_session_fd is readable. 0, or a negative code when the session has ended. */
PISO_API int piso_session_serve(piso_session *s, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
