/* method.h - a method of a remote object. */
#ifndef BINDING_METHOD_H
#define BINDING_METHOD_H

#include "rpc/object.h"

int core_method_init(PyObject *module, core_state *state);
PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout);

#endif
