/* prefetch.h - announces new shared memory to peers before it is first sent. */
#ifndef BINDING_PREFETCH_H
#define BINDING_PREFETCH_H

#include "rpc/object.h"

int core_prefetch_init(PyObject *module, core_state *state);
/* core_prefetch_take: opens shared memory that the peer may send later. Calls no method; ends the event. */
void core_prefetch_take(core_session *s, piso_event *event);

#endif
