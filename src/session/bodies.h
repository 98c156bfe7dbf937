/* bodies.h - what a message holds: buffers of the arena (buffers.c), a body and its spans (bodies.c). */
#ifndef PISO_SESSION_BODIES_H
#define PISO_SESSION_BODIES_H

#include "session/object.h"

/* piso__session_alloc: piso_session_alloc, with the lock. */
int piso__session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data);
/* piso__session_discard: piso_session_discard_spans, with the lock. */
void piso__session_discard(piso_session *s, piso_writer *w);
/* piso__session_check_span: 0 or PISO_EPROTO: a span that came with a message lies in the peer's arena; or it is one
 * that the peer had from us, and is ours again. */
int piso__session_check_span(piso_session *s, const piso_span *span);
/* piso__session_lend_spans: the message of this writer has been sent: its buffers are the peer's. */
void piso__session_lend_spans(piso_session *s, const piso_writer *w);

/* piso__forgotten: stands in the table for a call that nobody waits for, until its reply comes: the peer still has
 * the request open, so its id must not be used again. */
extern piso_call piso__forgotten;
/* piso__session_begin: what can be done of a message without the lock, then the lock, if it returns 0. `frame` gets what is
 * known of the body. */
int piso__session_begin(piso_session *s, piso__frame *frame, piso_writer *w);
/* piso__session_send_body: the frame with the writer's body and spans. */
int piso__session_send_body(piso_session *s, const piso__frame *frame, const piso_writer *w);
/* piso__session_end: unlocks what piso__session_begin locked. When the message has been sent the spans are the peer's; else the
 * writer becomes what it was. Returns `sent`. */
int piso__session_end(piso_session *s, const piso__frame *frame, piso_writer *w, int sent);

/* piso__session_may_call: whether the peer answers one more call at the moment. */
static inline bool piso__session_may_call(const piso_session *s) {
    return s->calls.live < s->call_limit;
}
/* piso__session_send_call: sends a call, whose id is then known; the writer keeps what it holds. `call` may be NULL, where
 * no answer is wanted, and piso__forgotten. 0 or a negative code. */
int piso__session_send_call(piso_session *s, piso_call *call, piso__frame *frame, int64_t deadline_ns,
                            const piso_writer *w);

#endif
