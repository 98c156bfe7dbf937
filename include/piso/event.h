/* event.h - the events of a session: requests, replies, ends. */
#ifndef PISO_EVENT_H
#define PISO_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/call.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum piso_event_type {
    PISO_EVENT_REQUEST = 1, /* a call of the peer: object, method, flags, body, spans; answer with `id` */
    PISO_EVENT_CANCEL,      /* the peer no longer waits for request `id` */
    PISO_EVENT_REPLY,       /* the body is the result of `call` */
    PISO_EVENT_ERROR,       /* the body is an exception, with which `call` ended */
    /* `call` ended with `error`: -ETIMEDOUT, PISO_EDIED, PISO_ECLOSED, PISO_EPROTO; a call that waited in the
     * backlog may also end with an error of piso_session_call */
    PISO_EVENT_FAILED,
    PISO_EVENT_RETIRED,  /* the peer retired its id for `segment` (borrowed until the event's end) */
    PISO_EVENT_RELEASED, /* the lease with this `cookie` has ended: by the peer, unsent, or with the session */
} piso_event_type;

#define PISO_EVENT_INLINE 512

/* piso_event: one event. The body is a private copy. piso_event_fini releases the spans that
 * piso_event_take_span did not take. */
typedef struct piso_event {
    size_t size; /* sizeof(piso_event), see piso_event_init */
    piso_event_type type;
    int error;
    uint64_t id;
    piso_call *call;
    uint32_t object, method;
    unsigned flags;
    /* of a request: this side's call in whose handler the peer made it; NULL: none, or it has ended */
    piso_call *parent;
    int64_t deadline_ns; /* of a request; PISO_NO_DEADLINE if there is none */
    const uint8_t *body;
    size_t body_size;
    uint32_t nspans;
    piso_span *spans;        /* checked against the peer's arena, or the size of their segment */
    piso_segment **segments; /* the segment of each span, NULL for one in the arena; NULL if there are no spans */
    piso_segment *segment;   /* PISO_EVENT_RETIRED */
    void *cookie;            /* PISO_EVENT_RELEASED */
    piso_session *session;   /* borrowed */
    void *heap;              /* private */
    uint8_t inline_body[PISO_EVENT_INLINE]; /* private: the space that `size` leaves; later fields use part of it */
} piso_event;

/* piso_event_init: prepares an event for its first use. Sets only `size`, so that it costs nothing. */
static inline void piso_event_init(piso_event *event) {
    event->size = sizeof *event;
}
/* piso_session_next: takes the next event. Returns 1; 0 when there is none now; a negative code once the
 * session has failed and every pending call has been reported; -EINVAL when the caller's struct has no room for
 * the event, which stays. Frees nothing of an earlier event. */
PISO_API int piso_session_next(piso_session *s, piso_event *ret_event);
PISO_API void piso_event_fini(piso_event *event);
/* piso_event_take_span: takes span `index` and returns the address of its bytes. The caller owns the span and
 * releases it with piso_session_release. The peer can still write to the bytes: read each byte once. NULL if
 * the index is out of range or the span was taken. */
PISO_API void *piso_event_take_span(piso_event *event, uint32_t index, piso_span *ret_span);

#ifdef __cplusplus
}
#endif

#endif
