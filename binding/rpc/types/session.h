/* session.h - the type Session. */
#ifndef BINDING_SESSION_H
#define BINDING_SESSION_H

#include "rpc/object.h"

int core_session_init(PyObject *module, core_state *state);
/* core_session_add: adds methods and attributes of the layers above to the type Session (either may be NULL). Returns 0
 * or -1. */
int core_session_add(core_state *state, PyMethodDef *methods, PyGetSetDef *attributes);
/* core_session_new: returns a Session without a connection. core_session_set_handle: sets the connection, and steals
 * it. */
PyObject *core_session_new(core_state *state, PyObject *name, PyObject *registry);
void core_session_set_handle(core_session *s, piso_session *session);

#endif
