/* bodies.h - outgoing messages with a body and spans. */
#ifndef PISO_SESSION_BODIES_H
#define PISO_SESSION_BODIES_H

#include "session/object.h"

/* piso__abandoned_call: takes the place in the table of a call that nobody waits for, until its reply comes. The
 * peer still has the request open, so the id must not be reused. */
extern piso_call piso__abandoned_call;
/* piso__session_begin: prepares a message as far as possible without the lock, then takes the lock if it
 * returns 0. `frame` gets what is known of the body. */
int piso__session_begin(piso_session *s, piso__frame *frame, piso_writer *w);
/* piso__session_send_body: sends the frame with the writer's body and spans. */
int piso__session_send_body(piso_session *s, const piso__frame *frame, const piso_writer *w);
/* piso__session_end: releases the lock that piso__session_begin took. If the message was sent the spans belong
 * to the peer; otherwise the writer is restored. Returns `sent`. */
int piso__session_end(piso_session *s, const piso__frame *frame, piso_writer *w, int sent);

/* piso__session_may_call: whether the peer accepts one more call now. */
static inline bool piso__session_may_call(const piso_session *s) {
    return s->calls.live < s->call_limit;
}
/* piso__session_send_call: sends a call and gives it its id. The writer keeps its contents. `call` may be NULL,
 * if no reply is wanted, or &piso__abandoned_call. 0 or a negative code. */
int piso__session_send_call(piso_session *s, piso_call *call, piso__frame *frame, int64_t deadline_ns,
                            const piso_writer *w);

#endif
