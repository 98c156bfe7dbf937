/* debug.h - conversion without a session, for tests. */
#ifndef BINDING_DEBUG_H
#define BINDING_DEBUG_H

#include "common/state.h"

int core_debug_init(PyObject *module, core_state *state);

#endif
