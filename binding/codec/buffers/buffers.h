/* buffers.h - memory: views of it, and segments that came from the peer. What this process holds of one: shared.h. */
#ifndef BINDING_BUFFERS_H
#define BINDING_BUFFERS_H

#include "codec/tables.h"

int core_buffers_init(PyObject *module, core_state *state);
void core_memoryviews_init(core_state *state);

/* ---- segments that came (received.c) ---- */

/* core_take_segment: the segment behind EXT_BUFFER, a reference; NULL without an exception when it lies elsewhere, or with
 * one when this process could not take it. */
piso_segment *core_take_segment(core_decoder *d, const piso_item *data, bool *ret_ours);
/* core_segment_cache: what is kept over one of the peer's segments, a dictionary, borrowed: tensors by their descriptions,
 * and under None a mapping for arrays. `key` is the segment's address. NULL with an exception. */
PyObject *core_segment_cache(core_codec *c, PyObject *key);
/* core_segment_cache_check: after something has been added: forgets it if the peer has taken the segment back meanwhile. Another
 * thread may have heard of that while this one still decoded a message of before. */
void core_segment_cache_check(core_codec *c, PyObject *key, const piso_segment *segment);
/* core_segment_cache_drop: the peer has let go of a segment. */
void core_segment_cache_drop(core_codec *c, piso_segment *segment);

#endif
