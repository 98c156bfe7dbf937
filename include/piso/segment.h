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

/* A segment is memory that lives as long as any process uses it, whoever made it, and that can be sent on to any
 * number of peers without a copy. It is a sealed memfd: the descriptor crosses once for each session, in front of
 * the first message that uses it; after that a span of it is 24 bytes. Each side maps it as it likes.
 *
 * Who made the number known (the sender of the descriptor) takes it back with piso_session_retire when nobody on its
 * side uses the segment any more. The peer hears of it by PISO_EVENT_RETIRED, lets go of what it keeps for the next
 * time, and keeps what its own users hold; the number is free again once it has answered. Where the descriptor has been
 * closed (piso_segment_map) it answers when piso_session_retire says that its own users hold nothing. It never answers
 * before the events that name the segment have ended. A cell that is not NULL tells that it is used. */

/* piso_segment_create: `size` bytes of zeros, backed by memory now (no SIGBUS later). -ENOMEM, -EDQUOT; -EMFILE; -ENOBUFS:
 * this process has as many segments as it may. One reference. */
PISO_API int piso_segment_create(uint64_t size, piso_segment **ret_segment);
PISO_API piso_segment *piso_segment_ref(piso_segment *segment);
PISO_API piso_segment *piso_segment_unref(piso_segment *segment);
/* piso_segment_map: where it is mapped, for reading and writing; the mapping is the segment's, one for all. Without
 * `keep_fd` the descriptor of a segment that came from a peer is closed: it can then be sent to that peer, and to no other.
 * -ENOMEM. piso_segment_unmap: it is not used now; does nothing if there is no descriptor to map it again, the mapping then
 * goes with the segment. The lock that guards the cell guards both. */
PISO_API int piso_segment_map(piso_segment *segment, bool keep_fd, void **ret_data);
PISO_API void piso_segment_unmap(piso_segment *segment);
/* piso_segment_fd: its descriptor, borrowed, to be mapped or duplicated, or -1; piso_segment_size: in bytes. */
PISO_API int piso_segment_fd(const piso_segment *segment);
PISO_API uint64_t piso_segment_size(const piso_segment *segment);
/* piso_segment_cell: a pointer kept for the caller, NULL at first; the caller's own lock guards it. A process has
 * one piso_segment for one memory, by whatever way it came. */
PISO_API void **piso_segment_cell(piso_segment *segment);

/* piso_session_share: whether this side takes descriptors from its peer; at first it does not, and one that comes is
 * PISO_EPROTO. Sending is always possible. */
PISO_API void piso_session_share(piso_session *s, bool allowed);
PISO_API void piso_limit_shared_memory(uint64_t bytes); /* of arenas and segments of this process: -EDQUOT */
/* piso_segment_limit: how many segments a process may have; of one peer it takes half as many. What is more, or finds no
 * descriptor, is refused: its sender may send it again. */
PISO_API uint32_t piso_segment_limit(void);
/* piso_session_retire: nobody here uses it any more: the peer is told, if it got the segment from here, or if it has taken
 * back a segment without a descriptor: that keeps its number as long as it is used here. */
PISO_API void piso_session_retire(piso_session *s, piso_segment *segment);
/* piso_session_has_segment: whether the peer gave the segment and has not taken it back. When it does, PISO_EVENT_RETIRED
 * comes after this was last true: in another thread perhaps, and before a message that names the segment is looked at. */
PISO_API bool piso_session_has_segment(piso_session *s, const piso_segment *segment);

/* piso_event_refused: why span `index` lies in a segment that this process could not take: -EMFILE or -ENOBUFS; else 0. */
PISO_API int piso_event_refused(const piso_event *event, uint32_t index);
/* piso_event_take_segment: the segment that span `index` lies in, a reference for the caller; *ret_ours: whether the
 * number was made known by this side. NULL if it is no such span, or out of range. A message may name one span many times:
 * it can be taken as often. */
PISO_API piso_segment *piso_event_take_segment(piso_event *event, uint32_t index, piso_span *ret_span, bool *ret_ours);

#ifdef __cplusplus
}
#endif

#endif
