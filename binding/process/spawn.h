/* spawn.h - methods of Session for a peer that is a child process. */
#ifndef BINDING_SPAWN_H
#define BINDING_SPAWN_H

#include "rpc/types/session.h"

/* core_spawn_init: adds the methods that start and end it. core_supervision_init: adds those that supervise it. */
int core_spawn_init(PyObject *module, core_state *state);
int core_supervision_init(PyObject *module, core_state *state);

#endif
