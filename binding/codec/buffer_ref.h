/* buffer_ref.h - the type BufferRef: a reference to a received shared buffer. */
#ifndef BINDING_BUFFER_REF_H
#define BINDING_BUFFER_REF_H

#include "common/state.h"

int core_buffer_ref_init(PyObject *module, core_state *state);
/* core_buffer_ref_new: returns an object with the writable buffer protocol over a span that the caller took. The span
 * is released when the object is deallocated, or by this function on failure. */
PyObject *core_buffer_ref_new(core_state *state, piso_session *session, const piso_span *span, void *data);
/* core_buffer_ref_return: sends the buffer back to its sender without a copy, as the next span of a message, when
 * `object` is a BufferRef of this session and `data` its first byte. The caller has checked that nobody else can access
 * the buffer. Returns the span's index; -1 when it cannot be done, and then nothing has changed. */
int core_buffer_ref_return(core_state *state, PyObject *object, piso_session *session, piso_writer *w, const void *data,
                           size_t size);

#endif
