/* buffer_ref.h - a received shared buffer, held until nobody uses it. */
#ifndef BINDING_BUFFER_REF_H
#define BINDING_BUFFER_REF_H

#include "common/state.h"

int core_buffer_ref_init(PyObject *module, core_state *state);
/* core_buffer_ref_new: an object with the (writable) buffer protocol over a span that the caller took; the span is
 * released when the object is collected, or here on failure. */
PyObject *core_buffer_ref_new(core_state *state, piso_session *session, const piso_span *span, void *data);
/* core_buffer_ref_return: makes the buffer the next span of a message to where it came from, without a copy, when `object`
 * is a Lease of this session and `data` its first byte. The caller has made sure that nobody else can look into it. The
 * span's index; -1 when it cannot be done, and then nothing has changed. */
int core_buffer_ref_return(core_state *state, PyObject *object, piso_session *session, piso_writer *w, const void *data,
                      size_t size);

#endif
