/* registry.h - the classes of which instances may be made when they arrive. */
#ifndef BINDING_REGISTRY_H
#define BINDING_REGISTRY_H

#include "common/state.h"

typedef enum core_class_kind { CORE_ENUM = 1, CORE_DATACLASS, CORE_NAMED_TUPLE, CORE_EXCEPTION_CLASS } core_class_kind;

int core_registry_init(PyObject *module, core_state *state);
/* core_registry_name: the name a class is registered under, borrowed; NULL without an exception when it is not. */
PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls);
/* core_registry_class: the class behind a name, borrowed, and its kind; NULL without an exception. */
PyObject *core_registry_class(PyObject *registry, PyObject *name, core_class_kind *ret_kind);
/* core_class_kind_of: 0 for a class that cannot be registered, -1 with an exception. */
int core_class_kind_of(PyObject *cls);

#endif
