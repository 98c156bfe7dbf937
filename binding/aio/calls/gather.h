/* gather.h - pyisolate.gather: several calls that are awaited together. */
#ifndef BINDING_GATHER_H
#define BINDING_GATHER_H

#include "call.h"

int core_gather_init(PyObject *module, core_state *state);

#endif
