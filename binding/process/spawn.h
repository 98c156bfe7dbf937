/* spawn.h - what is added to Session where the other side is a process of ours. */
#ifndef BINDING_SPAWN_H
#define BINDING_SPAWN_H

#include "rpc/session.h"

/* core_spawn_init: starting and ending it. core_supervision_init: watching over it. */
int core_spawn_init(PyObject *module, core_state *state);
int core_supervision_init(PyObject *module, core_state *state);

#endif
