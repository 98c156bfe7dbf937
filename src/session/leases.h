/* leases.h - what goes back to its owner: buffers (releases.c) and leases (leases.c). */
#ifndef PISO_SESSION_LEASES_H
#define PISO_SESSION_LEASES_H

#include "session/object.h"

/* piso__session_give_back: a span of an event is no longer used: the peer's goes back to it, in a batch; it may also
 * lie in our own arena. */
void piso__session_give_back(piso_session *s, const piso_span *span);
/* piso__session_queue_lease: notes that a lease of the peer's is no longer needed. */
void piso__session_queue_lease(piso_session *s, uint64_t id);
/* piso__session_flush_releases: sends the batches, if there are any. */
void piso__session_flush_releases(piso_session *s);

/* piso__session_release_lease: the cookie waits for piso_session_next. False when the id is not known (any more). */
bool piso__session_release_lease(piso_session *s, uint64_t id);
/* piso__session_discard_leases: those of a writer that is not sent. */
void piso__session_discard_leases(piso_session *s, const piso_writer *w);
/* piso__session_leases_ended: the peer's frame. */
int piso__session_leases_ended(piso_session *s, const uint8_t *ids, size_t size);
/* piso__session_next_released, _next_lease: the event for a lease that has ended; for one that ends with the session.
 * 1, or 0 when there is none. */
int piso__session_next_released(piso_session *s, piso_event *event);
int piso__session_next_lease(piso_session *s, piso_event *event);

#endif
