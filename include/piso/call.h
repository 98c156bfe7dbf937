/* call.h - calls and their replies on their way out: names, deadlines, giving up. */
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

/* piso_session_intern: the id for a method name towards this peer. The first use sends the name; the
 * id is then good for the life of the session. At most 65,536 names of at most 255 bytes. */
PISO_API int piso_session_intern(piso_session *s, const char *name, size_t size, uint32_t *ret_id);
/* piso_session_name: the name behind an id that the peer defined, or NULL. Valid until the session is freed. The peer
 * counts its ids from 0 and does not change what they mean: callers may keep what they make of a name. */
PISO_API const char *piso_session_name(piso_session *s, uint32_t id, size_t *ret_size);

/* piso_call: one outgoing call, embedded in the caller's own object. The session keeps a pointer to it from
 * piso_session_call until the event that ends it (PISO_EVENT_REPLY, _ERROR or _FAILED) or until
 * piso_session_forget. Fields are private. */
typedef struct piso_call {
    uint64_t id;         /* 0: not pending */
    int64_t deadline_ns; /* CLOCK_MONOTONIC, INT64_MAX: none */
    void *waiting;       /* while the peer answers others first */
    int error;           /* why it is over, until that is told */
} piso_call;

#define PISO_NO_DEADLINE INT64_MAX

/* piso_session_call: sends a call. Body: the positional arguments as an array and, with
 * PISO_CALL_KWARGS, then a map. `parent`: the peer's request (piso_event.id) in whose handler the call is made, or 0: the
 * peer runs it where that request's caller waits. Takes the writer's spans, leaves its memory. Never blocks: while the ring
 * is full, or the peer answers as many calls as it answers at once, the message waits in private memory. On failure
 * nothing was sent and the spans are still the writer's. */
PISO_API int piso_session_call(piso_session *s, piso_call *call, uint32_t object, uint32_t method, unsigned flags,
                               uint64_t parent, int64_t deadline_ns, piso_writer *w);
enum { PISO_CALL_KWARGS = 1, PISO_CALL_NO_REPLY = 2 /* call may be NULL */ };

/* piso_session_reply: answers a request; is_error: the body is an exception. A request is answered once. */
PISO_API int piso_session_reply(piso_session *s, uint64_t request, bool is_error, piso_writer *w);

/* piso_session_forget: no event will come for this call any more. cancel: the peer is asked to cancel its
 * handler. Harmless when the call is not pending. */
PISO_API void piso_session_forget(piso_session *s, piso_call *call, bool cancel);

/* piso_session_expire: turns calls whose deadline has passed into PISO_EVENT_FAILED (-ETIMEDOUT; the peer is
 * told to cancel). Returns the earliest deadline that is left, or PISO_NO_DEADLINE. */
PISO_API int64_t piso_session_expire(piso_session *s);

#ifdef __cplusplus
}
#endif

#endif
