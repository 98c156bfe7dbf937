/* send.h - outgoing messages, and the failure of a session. */
#ifndef PISO_SESSION_SEND_H
#define PISO_SESSION_SEND_H

#include "session/object.h"

/* piso__session_send: sends one message through the ring, or queues it behind others that wait. 0, -ENOMEM,
 * PISO_EPROTO. */
int piso__session_send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body,
                       size_t size);
/* piso__session_send_quietly: the same, but does not wake a sleeping peer, which reads the message when
 * something else wakes it. */
int piso__session_send_quietly(piso_session *s, const piso__frame *frame, const void *body, size_t size);
/* piso__session_send_attach: announces a segment: sends its descriptor, then the frame, or queues both. */
int piso__session_send_attach(piso_session *s, piso_segment *segment, uint32_t id);
/* piso__session_flush_queue: sends queued messages, as many as there is room for. */
void piso__session_flush_queue(piso_session *s);
/* piso__session_announce: sets the hint for a polling peer that a message is coming which takes long to write. */
void piso__session_announce(piso_session *s, bool coming);
/* piso__session_protocol_error: records what the peer did wrong (static text; the first one is kept) and returns
 * PISO_EPROTO. */
int piso__session_protocol_error(piso_session *s, const char *fault);
/* piso__session_fail: ends the session with this code; the first one is kept. Wakes the peer and all threads
 * that sleep here. */
void piso__session_fail(piso_session *s, int error);

#endif
