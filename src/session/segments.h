/* segments.h - shared segments in a session: which ids stand for them. */
#ifndef PISO_SESSION_SEGMENTS_H
#define PISO_SESSION_SEGMENTS_H

#include "session/object.h"

/* piso__session_name_spans: the writer's spans as they go on the wire. */
int piso__session_name_spans(piso_session *s, const piso_writer *w, piso_span *ret_spans);
/* piso__session_find_segment: what a span of the peer's lies in, checked: 0 and a new reference; why there is none if it
 * was refused; PISO_EPROTO. */
int piso__session_find_segment(piso_session *s, const piso_span *span, piso_segment **ret_segment, bool *ret_ours);
/* piso__session_let_go: an event that has such a reference ends; `span` is the event's. */
void piso__session_let_go(piso_session *s, const piso_span *span, const piso_segment *segment);
/* The peer's frames about segments. */
int piso__session_attached_by_peer(piso_session *s, uint32_t id);
int piso__session_attach_done(piso_session *s, uint32_t id, bool refused);
/* piso__session_retired_by_peer: *ret_segment is NULL if it was refused. */
int piso__session_retired_by_peer(piso_session *s, uint32_t id, piso_segment **ret_segment);
int piso__session_retire_done(piso_session *s, uint32_t id);
/* piso__session_retire_unused: piso_session_retire for those segments of a writer that nobody has used since it was
 * written: their end came before the peer knew them. */
void piso__session_retire_unused(piso_session *s, const piso_writer *w);
/* piso__session_drop_segments: the session has ended: its references go. */
void piso__session_drop_segments(piso_session *s);
/* piso__writer_drop_segments: needs no lock. */
void piso__writer_drop_segments(piso_writer *w);

#endif
