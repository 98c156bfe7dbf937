/* gather.h - pyisolate.gather, which awaits several calls together. */
#ifndef BINDING_GATHER_H
#define BINDING_GATHER_H

#include "call.h"

int core_gather_init(PyObject *module, core_state *state);

#endif
