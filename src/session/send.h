/* send.h - messages on their way out, and how a session ends. */
#ifndef PISO_SESSION_SEND_H
#define PISO_SESSION_SEND_H

#include "session/object.h"

/* piso__session_send: one message, through the ring or behind what waits for it. 0, -ENOMEM, PISO_EPROTO. */
int piso__session_send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body,
                       size_t size);
/* piso__session_send_quietly: the same, but a peer that sleeps is not woken: it sees the message when something else wakes
 * it. */
int piso__session_send_quietly(piso_session *s, const piso__frame *frame, const void *body, size_t size);
/* piso__session_send_attach: announces a segment: its descriptor, then the frame, or both behind what waits. */
int piso__session_send_attach(piso_session *s, piso_segment *segment, uint32_t id);
/* piso__session_flush_queue: sends what waits, as far as there is room. */
void piso__session_flush_queue(piso_session *s);
/* piso__session_announce: tells a peer that polls whether a message is coming that takes long to write. */
void piso__session_announce(piso_session *s, bool coming);
/* piso__session_wrong: PISO_EPROTO, with what the peer did wrong (static text; the first one stays). */
int piso__session_wrong(piso_session *s, const char *fault);
/* piso__session_fail: the session ends with this code; the first one stays. The peer and all who sleep here are
 * told. */
void piso__session_fail(piso_session *s, int error);

#endif
