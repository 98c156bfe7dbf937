/* segment.h - memory that any number of processes share. */
#ifndef PISO_SEGMENT_H
#define PISO_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/event.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A segment is memory that exists while any process uses it, whoever made it, and that can be sent on to any
 * number of peers without a copy. It is a sealed memfd. Its descriptor is sent once per session, before the
 * first message that uses the segment; after that a span of it takes 24 bytes. Each side chooses where to map
 * it.
 *
 * The side that gave the id (the sender of the descriptor) retires it with piso_session_retire when nobody on
 * its side uses the segment any more. The peer gets PISO_EVENT_RETIRED, drops what it caches, and keeps what
 * its own users hold. The id is free again once the peer has acknowledged. A peer that has closed the
 * descriptor (piso_segment_map) acknowledges when its piso_session_retire reports that its own users hold
 * nothing. It never acknowledges before the events that name the segment have ended. A cell that is not NULL
 * means that the segment is used. */

/* piso_segment_create: makes a segment of `size` zero bytes, backed by memory now (no SIGBUS later), with one
 * reference. -ENOMEM, -EDQUOT; -EMFILE; -ENOBUFS: this process has as many segments as it may have. */
PISO_API int piso_segment_create(uint64_t size, piso_segment **ret_segment);
PISO_API piso_segment *piso_segment_ref(piso_segment *segment);
PISO_API piso_segment *piso_segment_unref(piso_segment *segment);
/* piso_segment_map: returns the address of the mapping, for reading and writing. The mapping belongs to the
 * segment, and there is only one. Without `keep_fd` the descriptor of a segment that came from a peer is
 * closed; the segment can then be sent to that peer only. -ENOMEM. piso_segment_unmap: removes the mapping,
 * which is not in use. It does nothing without a descriptor to map the memory again; the mapping then ends with
 * the segment. The lock that guards the cell guards both. */
PISO_API int piso_segment_map(piso_segment *segment, bool keep_fd, void **ret_data);
PISO_API void piso_segment_unmap(piso_segment *segment);
/* piso_segment_fd: returns its descriptor, which the caller may map or duplicate, or -1. Borrowed.
 * piso_segment_size: returns the size in bytes. */
PISO_API int piso_segment_fd(const piso_segment *segment);
PISO_API uint64_t piso_segment_size(const piso_segment *segment);
/* piso_segment_cell: a pointer kept for the caller, NULL at first. The caller's own lock guards it. A process
 * has one piso_segment for one memory, by whatever way the memory came. */
PISO_API void **piso_segment_cell(piso_segment *segment);

/* piso_session_share: whether this side accepts descriptors from its peer. It does not by default, and a
 * descriptor that comes is PISO_EPROTO. Sending is always possible. */
PISO_API void piso_session_share(piso_session *s, bool allowed);
PISO_API void piso_limit_shared_memory(uint64_t bytes); /* of this process's arenas and segments; beyond: -EDQUOT */
/* piso_segment_limit: returns how many segments a process may have. It accepts half as many from one peer. A
 * segment beyond that, or for which there is no descriptor, is refused; its sender may send it again. */
PISO_API uint32_t piso_segment_limit(void);
/* piso_session_retire: reports that nobody on this side uses the segment any more. Tells the peer if the peer
 * got the segment from here, or if it has retired a segment that has no descriptor here: such a segment keeps
 * its id while it is used here. */
PISO_API void piso_session_retire(piso_session *s, piso_segment *segment);
/* piso_session_has_segment: whether the peer gave the segment and has not retired it. PISO_EVENT_RETIRED comes
 * after this was last true: possibly in another thread, and before the next message that names the segment is
 * received. */
PISO_API bool piso_session_has_segment(piso_session *s, const piso_segment *segment);

/* piso_event_refused: why this process could not accept the segment of span `index`: -EMFILE or -ENOBUFS; else
 * 0. */
PISO_API int piso_event_refused(const piso_event *event, uint32_t index);
/* piso_event_take_segment: returns a new reference to the segment of span `index`. *ret_ours: whether this side
 * gave the id. NULL if the span is in no segment, or the index is out of range. A message may name a span many
 * times, so it can be taken as often. */
PISO_API piso_segment *piso_event_take_segment(piso_event *event, uint32_t index, piso_span *ret_span, bool *ret_ours);

#ifdef __cplusplus
}
#endif

#endif
