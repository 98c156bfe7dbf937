/* lease.h - promises to keep something until the peer has finished with it. */
#ifndef PISO_LEASE_H
#define PISO_LEASE_H

#include <stdint.h>

#include "piso/api.h"
#include "piso/event.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A lease is a promise: its giver keeps something (memory of a GPU, an object) until the peer has ended the lease, or
 * the session has ended. It goes to the peer as one of the spans of a message, so it ends by itself when the message is
 * not sent, or not looked at. */

/* piso_session_lease: adds a new lease to a message; the span's index, or a negative code. `cookie` (not NULL) is the
 * caller's name for what it keeps, and comes back once, by PISO_EVENT_RELEASED; piso_session_unref of the last
 * reference reports nothing, so whoever needs all cookies takes events until the end first. */
PISO_API int piso_session_lease(piso_session *s, piso_writer *w, void *cookie);
/* piso_event_take_lease: the id of the peer's lease that is span `index`, to be ended by the caller; 0 if it is no such
 * span, out of range, or taken. Others are ended by piso_event_fini. */
PISO_API uint64_t piso_event_take_lease(piso_event *event, uint32_t index);
/* piso_session_end_lease: what the lease stands for is no longer needed here. Once for each id; batched like releases:
 * piso_session_flush sends it at once. */
PISO_API void piso_session_end_lease(piso_session *s, uint64_t id);

#ifdef __cplusplus
}
#endif

#endif
