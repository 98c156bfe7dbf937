/* buffers.h - memoryviews, and segments received from the peer. The segments that this process holds: shared.h. */
#ifndef BINDING_BUFFERS_H
#define BINDING_BUFFERS_H

#include "codec/tables.h"

int core_buffers_init(PyObject *module, core_state *state);
void core_memoryviews_init(core_state *state);

/* ---- received segments (received.c) ---- */

/* core_take_segment: takes the segment of an EXT_BUFFER. Returns a new reference; NULL without an exception when the
 * buffer is not in a segment, or with one when this process could not map it. */
piso_segment *core_take_segment(core_decoder *d, const piso_item *data, bool *ret_ours);
/* core_segment_cache: returns the objects cached over one of the peer's segments, a borrowed dict: tensors by their
 * descriptions, and under None a mapping for arrays. `key` is the segment's address. NULL with an exception. */
PyObject *core_segment_cache(core_codec *c, PyObject *key);
/* core_segment_cache_check: called after an object was added: drops the cache if the peer has retired the segment
 * meanwhile. Another thread may have taken that event while this one decoded an earlier message. */
void core_segment_cache_check(core_codec *c, PyObject *key, const piso_segment *segment);
/* core_segment_cache_drop: called when the peer has retired a segment. */
void core_segment_cache_drop(core_codec *c, piso_segment *segment);

#endif
