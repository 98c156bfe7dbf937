/* method.h - a method of a remote object. */
#ifndef BINDING_METHOD_H
#define BINDING_METHOD_H

#include "rpc/object.h"

#define CORE_NOT_INTERNED UINT32_MAX /* core_callee.method: core_callee_intern has yet to set it */
/* core_callee_intern: sets the id of the method's name. Returns 0 or -1. */
int core_callee_intern(core_callee *to);
/* core_call_timeout: converts seconds or None to nanoseconds; 0: none. Returns 0, or -1 with an exception. */
int core_call_timeout(PyObject *timeout, int64_t *ret_ns);

/* core_method_callee: gets what a Method calls, with an interned name; the references stay its own. Returns 0 or -1. */
int core_method_callee(PyObject *method, core_callee *ret);

int core_method_init(PyObject *module, core_state *state);
/* core_method_new: returns a Method. `timeout` is what was given for to->timeout_ns. */
PyObject *core_method_new(const core_callee *to, bool sync, PyObject *timeout);

#endif
