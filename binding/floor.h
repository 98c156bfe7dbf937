/* floor.h - the floor under a call: two processes that poll one cache line. For benchmarks. */
#ifndef BINDING_FLOOR_H
#define BINDING_FLOOR_H

#include "common/state.h"

int core_floor_init(PyObject *module, core_state *state);

#endif
