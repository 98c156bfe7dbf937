/* opaque.h - the type Opaque: a value of a type that this process does not know, which can be sent on. */
#ifndef BINDING_OPAQUE_H
#define BINDING_OPAQUE_H

#include "custom.h"

int core_opaque_init(PyObject *module, core_state *state);
/* core_opaque_new: returns an Opaque for a value that was received under a name; `ext_type` is that of the message. */
PyObject *core_opaque_new(core_state *state, int8_t ext_type, PyObject *name, PyObject *value);

#endif
