/* lease.h - leases: one side keeps something until the peer no longer needs it. */
#ifndef PISO_LEASE_H
#define PISO_LEASE_H

#include <stdint.h>

#include "piso/api.h"
#include "piso/event.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The giver of a lease keeps something (GPU memory, an object) until the peer or the session ends the lease. A
 * lease is sent as one of the spans of a message, so it ends by itself when the message is not sent or is
 * dropped. */

/* piso_session_lease: adds a new lease to a message. Returns the span's index, or a negative code. `cookie`
 * (not NULL) identifies for the caller what it keeps, and is returned once, by PISO_EVENT_RELEASED.
 * piso_session_unref of the last reference reports nothing: a caller that needs all cookies must take events
 * until the session's end first. */
PISO_API int piso_session_lease(piso_session *s, piso_writer *w, void *cookie);
/* piso_event_take_lease: takes span `index`, a lease of the peer, and returns its id. The caller must end it.
 * Returns 0 if the span is no lease, the index is out of range, or the span was taken. piso_event_fini ends
 * those that were not taken. */
PISO_API uint64_t piso_event_take_lease(piso_event *event, uint32_t index);
/* piso_session_end_lease: ends a lease of the peer: this side no longer needs what the lease stands for. Must
 * be called once for each id. Batched like releases; piso_session_flush sends it at once. */
PISO_API void piso_session_end_lease(piso_session *s, uint64_t id);

#ifdef __cplusplus
}
#endif

#endif
