/* lease.h - a received shared buffer, held until nobody uses it. */
#ifndef BINDING_LEASE_H
#define BINDING_LEASE_H

#include "state.h"

int core_lease_init(PyObject *module, core_state *state);
/* core_lease_new: an object with the (writable) buffer protocol over a span that the caller took; the span is
 * released when the object is collected, or here on failure. */
PyObject *core_lease_new(core_state *state, piso_session *session, const piso_span *span, void *data);

#endif
