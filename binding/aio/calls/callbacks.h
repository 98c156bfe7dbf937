/* callbacks.h - the callbacks of sessions that this layer fills. */
#ifndef BINDING_CALLBACKS_H
#define BINDING_CALLBACKS_H

#include "common/state.h"

/* core_callbacks_init: sets the callbacks of sessions. */
int core_callbacks_init(PyObject *module, core_state *state);

#endif
