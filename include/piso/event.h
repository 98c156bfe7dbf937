/* event.h - what happens in a session: requests, replies, ends. */
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
    PISO_EVENT_REQUEST = 1, /* the peer calls: object, method, flags, body, spans; answer with `id` */
    PISO_EVENT_CANCEL,      /* the peer no longer waits for request `id` */
    PISO_EVENT_REPLY,       /* `call` has its result in body */
    PISO_EVENT_ERROR,       /* `call` has an exception in body */
    PISO_EVENT_FAILED,      /* `call` ends with `error`: -ETIMEDOUT, PISO_EDIED, PISO_ECLOSED, PISO_EPROTO; of one that
                             * had to wait also what piso_session_call returns */
    PISO_EVENT_RETIRED,     /* the peer has taken back its number for `segment` (borrowed until the event's end) */
    PISO_EVENT_RELEASED,    /* the lease with this `cookie` has ended: by the peer, unsent, or with the session */
} piso_event_type;

#define PISO_EVENT_INLINE 512

/* piso_event: one thing that happened. The body is a private copy. Spans that were not taken by
 * piso_event_take_span are released by piso_event_fini. */
typedef struct piso_event {
    size_t size; /* sizeof(piso_event), see piso_event_init */
    piso_event_type type;
    int error;
    uint64_t id;
    piso_call *call;
    uint32_t object, method;
    unsigned flags;
    piso_call *parent; /* of a request: the call of this side in whose handler the peer made it; NULL: none, or ended */
    int64_t deadline_ns; /* of a request, PISO_NO_DEADLINE if none */
    const uint8_t *body;
    size_t body_size;
    uint32_t nspans;
    piso_span *spans;        /* checked against the peer's arena, or the size of their segment */
    piso_segment **segments; /* of each span, NULL where it lies in the arena; NULL if there are no spans */
    piso_segment *segment;   /* PISO_EVENT_RETIRED */
    void *cookie;            /* PISO_EVENT_RELEASED */
    piso_session *session;   /* borrowed */
    void *heap;              /* private */
    uint8_t inline_body[PISO_EVENT_INLINE]; /* private: what `size` has left; later fields take of it */
} piso_event;

/* piso_event_init: before an event is used for the first time. Sets nothing but `size`, so that it costs nothing. */
static inline void piso_event_init(piso_event *event) {
    event->size = sizeof *event;
}
/* piso_session_next: takes the next event. 1; 0 when there is none now; a negative code once the session has
 * failed and every pending call has been reported; -EINVAL: there is one, and no room for it. Frees nothing of an earlier
 * event. */
PISO_API int piso_session_next(piso_session *s, piso_event *ret_event);
PISO_API void piso_event_fini(piso_event *event);
/* piso_event_take_span: the bytes of span `index`, which the caller now owns and releases with piso_session_release.
 * The peer can still write there: read each byte once. NULL if index is out of range or taken. */
PISO_API void *piso_event_take_span(piso_event *event, uint32_t index, piso_span *ret_span);

#ifdef __cplusplus
}
#endif

#endif
