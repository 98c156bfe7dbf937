/* buffers.h - shared buffers of the arenas, as spans of messages. */
#ifndef PISO_SESSION_BUFFERS_H
#define PISO_SESSION_BUFFERS_H

#include "session/object.h"

/* piso__session_alloc: piso_session_alloc for callers that hold the lock. */
int piso__session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data);
/* piso__session_discard: piso_session_discard_spans for callers that hold the lock. */
void piso__session_discard(piso_session *s, piso_writer *w);
/* piso__session_check_span: checks a span that came with a message: it must be in the peer's arena, or return
 * one of our buffers that the peer had; such a buffer is ours again. 0 or PISO_EPROTO. */
int piso__session_check_span(piso_session *s, const piso_span *span);
/* piso__session_lend_spans: marks the writer's buffers as lent to the peer, after its message was sent. */
void piso__session_lend_spans(piso_session *s, const piso_writer *w);

#endif
