/* callbacks.h - what sessions ask of this layer. */
#ifndef BINDING_CALLBACKS_H
#define BINDING_CALLBACKS_H

#include "common/state.h"

/* core_callbacks_init: fills what sessions ask of this layer. */
int core_callbacks_init(PyObject *module, core_state *state);

#endif
