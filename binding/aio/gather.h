/* gather.h - calls that are awaited together (gather.c), for call.c. */
#ifndef BINDING_GATHER_H
#define BINDING_GATHER_H

#include "rpc/session.h"

int core_gather_init(PyObject *module, core_state *state);
/* core_gather_new: gather(*awaitables, return_exceptions=False). */
PyObject *core_gather_new(PyObject *module, PyObject *args, PyObject *kwargs);
/* core_gather_completed: one of the calls has ended: the parker to be woken (borrowed), or NULL. */
PyObject *core_gather_completed(core_gather *g, core_call *call);

/* call.c: core_call_park_in: parks a call as one of several. core_call_abandon: gives it up and asks for cancellation.
 * core_call_drop_value: as if it had been awaited. */
void core_call_park_in(core_call *call, core_link *link, core_gather *g);
void core_call_abandon(core_call *call);
void core_call_drop_value(core_call *call);

#endif
