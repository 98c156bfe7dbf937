/* floor.h - for benchmarks: the lower bound of a call's latency, two processes that poll one cache line. */
#ifndef BINDING_FLOOR_H
#define BINDING_FLOOR_H

#include "common/state.h"

int core_floor_init(PyObject *module, core_state *state);

#endif
