/* call.h - a Call: the result of calling a remote method. A task may wait on a loop for its end (it is parked then),
 * alone or as one of several calls that are awaited together (gather.c). */
#ifndef BINDING_CALL_H
#define BINDING_CALL_H

#include "aio/loop/parked.h"

int core_call_init(PyObject *module, core_state *state);
/* core_call_new: encodes and sends the call. It raises errors of that when it is awaited. */
PyObject *core_call_new(const core_callee *to, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_call_completed: called when pending.outcome has been set: wakes the waiting task. */
void core_call_completed(core_call *call);
/* core_call_park_in: parks a call as one of several. core_call_abandon: stops waiting for it and requests cancellation.
 * core_call_drop_value: drops the result, as if it had been awaited. */
void core_call_park_in(core_call *call, core_link *link, core_group *group);
void core_call_abandon(core_call *call);
void core_call_drop_value(core_call *call);

#endif
