/* sessions.h - operations on all sessions. */
#ifndef BINDING_SESSIONS_H
#define BINDING_SESSIONS_H

#include "object.h"

/* core_sessions_init: sets the operations on all sessions for the layers below (sessions.c). */
int core_sessions_init(PyObject *module, core_state *state);

#endif
