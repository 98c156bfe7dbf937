/* segments.h - the ids of shared segments in a session. */
#ifndef PISO_SESSION_SEGMENTS_H
#define PISO_SESSION_SEGMENTS_H

#include "session/object.h"

/* piso__session_name_spans: writes the writer's spans in their form on the wire. */
int piso__session_name_spans(piso_session *s, const piso_writer *w, piso_span *ret_spans);
/* piso__session_find_segment: returns a new reference to the segment of a span from the peer, and checks the
 * span. 0; the reason why there is no segment, if it was refused; PISO_EPROTO. */
int piso__session_find_segment(piso_session *s, const piso_span *span, piso_segment **ret_segment, bool *ret_ours);
/* piso__session_drop_span: drops such a reference when its event ends. `span` is the event's. */
void piso__session_drop_span(piso_session *s, const piso_span *span, const piso_segment *segment);
/* These handle the peer's frames about segments. */
int piso__session_attached_by_peer(piso_session *s, uint32_t id);
int piso__session_attach_done(piso_session *s, uint32_t id, bool refused);
/* piso__session_retired_by_peer: *ret_segment is NULL if the segment was refused. */
int piso__session_retired_by_peer(piso_session *s, uint32_t id, piso_segment **ret_segment);
int piso__session_retire_done(piso_session *s, uint32_t id);
/* piso__session_retire_unused: calls piso_session_retire for those segments of a writer that nobody has used
 * since it was written. Their users ended before the peer knew the segments. */
void piso__session_retire_unused(piso_session *s, const piso_writer *w);
/* piso__session_drop_segments: drops all references; the session has ended. */
void piso__session_drop_segments(piso_session *s);
/* piso__writer_drop_segments: needs no lock. */
void piso__writer_drop_segments(piso_writer *w);

#endif
