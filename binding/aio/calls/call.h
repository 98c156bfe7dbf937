/* call.h - a Call: what calling a method of the other side returns. */
#ifndef BINDING_CALL_H
#define BINDING_CALL_H

#include "aio/loop/parked.h"

int core_call_init(PyObject *module, core_state *state);
/* core_call_new: encodes, sends; a failure is kept for the await. */
PyObject *core_call_new(core_session *s, uint32_t object, uint32_t method, PyObject *name, int64_t timeout_ns,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_call_completed: pending.outcome has been set: wakes who waits. */
void core_call_completed(core_call *call);
/* core_call_park_in: parks a call as one of several. core_call_abandon: gives it up and asks for cancellation.
 * core_call_drop_value: as if it had been awaited. */
void core_call_park_in(core_call *call, core_link *link, core_group *group);
void core_call_abandon(core_call *call);
void core_call_drop_value(core_call *call);

#endif
