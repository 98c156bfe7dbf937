/* call.h - outgoing calls and replies: method names, deadlines, cancellation. */
#ifndef PISO_CALL_H
#define PISO_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_session_intern: returns the id of a method name towards this peer. The first use sends the name. The id
 * is valid for the life of the session. At most 65,536 names of at most 255 bytes. */
PISO_API int piso_session_intern(piso_session *s, const char *name, size_t size, uint32_t *ret_id);
/* piso_session_name: returns the name of an id that the peer defined, or NULL. The name is valid until the
 * session is freed. The peer's ids count from 0 and never change their meaning, so callers may cache what they
 * derive from a name. */
PISO_API const char *piso_session_name(piso_session *s, uint32_t id, size_t *ret_size);

/* piso_call: one outgoing call, embedded in the caller's own object. The session keeps a pointer to it from
 * piso_session_call until the event that ends it (PISO_EVENT_REPLY, _ERROR or _FAILED) or until
 * piso_session_forget. Fields are private. */
typedef struct piso_call {
    uint64_t id;         /* 0: not pending */
    int64_t deadline_ns; /* CLOCK_MONOTONIC, INT64_MAX: none */
    void *waiting;       /* while the call waits in the backlog */
    int error;           /* why the call failed, until that is reported */
} piso_call;

#define PISO_NO_DEADLINE INT64_MAX

/* piso_session_call: sends a call. The body is an array of the positional arguments and, with PISO_CALL_KWARGS,
 * then a map. `parent` is the id of the peer's request (piso_event.id) in whose handler the call is made, or 0;
 * the peer runs the call in the thread that waits for that request. Takes the writer's spans; the writer keeps
 * its memory. Never blocks: while the ring is full, or as many calls are open as the peer answers at once, the
 * message waits in private memory. On failure nothing was sent and the writer still owns the spans. */
PISO_API int piso_session_call(piso_session *s, piso_call *call, uint32_t object, uint32_t method, unsigned flags,
                               uint64_t parent, int64_t deadline_ns, piso_writer *w);
enum { PISO_CALL_KWARGS = 1, PISO_CALL_NO_REPLY = 2 /* call may be NULL */ };

/* piso_session_reply: answers a request. With is_error the body is an exception. A request is answered once. */
PISO_API int piso_session_reply(piso_session *s, uint64_t request, bool is_error, piso_writer *w);

/* piso_session_cancelled: returns whether nobody waits any more for the reply to an open request: the peer has given it
 * up, its deadline has passed, or the session has ended. Looks for that in the ring, too: messages of the peer are
 * copied to private memory, up to 16 MiB, and piso_session_next returns them in their order. -ENOENT if the request is
 * not open. */
PISO_API int piso_session_cancelled(piso_session *s, uint64_t request);

/* piso_session_forget: gives up a call: no event will report it. With `cancel` the peer is asked to cancel its
 * handler. Does nothing when the call is not pending. */
PISO_API void piso_session_forget(piso_session *s, piso_call *call, bool cancel);

/* piso_session_expire: ends each call whose deadline has passed by a PISO_EVENT_FAILED (-ETIMEDOUT), and asks
 * the peer to cancel it. Returns the earliest deadline of the other calls, or PISO_NO_DEADLINE. */
PISO_API int64_t piso_session_expire(piso_session *s);

#ifdef __cplusplus
}
#endif

#endif
