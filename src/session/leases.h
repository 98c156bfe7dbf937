/* leases.h - what is given back to its owner: buffers (releases.c) and leases (leases.c). */
#ifndef PISO_SESSION_LEASES_H
#define PISO_SESSION_LEASES_H

#include "session/object.h"

/* piso__session_give_back: releases a span of an event. A buffer of the peer is given back to it in a batch; a
 * buffer of our own arena is freed. */
void piso__session_give_back(piso_session *s, const piso_span *span);
/* piso__session_queue_lease: queues the end of a lease of the peer. */
void piso__session_queue_lease(piso_session *s, uint64_t id);
/* piso__session_flush_releases: sends the batches, if there are any. */
void piso__session_flush_releases(piso_session *s);

/* piso__session_release_lease: ends a lease of ours; piso_session_next will report its cookie. False for an
 * unknown id. */
bool piso__session_release_lease(piso_session *s, uint64_t id);
/* piso__session_discard_leases: ends the leases of a writer that is not sent. */
void piso__session_discard_leases(piso_session *s, const piso_writer *w);
/* piso__session_leases_ended: handles the peer's END_LEASES. */
int piso__session_leases_ended(piso_session *s, const uint8_t *ids, size_t size);
/* piso__session_next_released: fills the event for a lease that has ended. piso__session_next_lease: the same
 * for one that ends with the session. 1, or 0 when there is none. */
int piso__session_next_released(piso_session *s, piso_event *event);
int piso__session_next_lease(piso_session *s, piso_event *event);

#endif
