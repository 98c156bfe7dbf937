/* registry.h - the classes of which instances may be made when they arrive. */
#ifndef BINDING_REGISTRY_H
#define BINDING_REGISTRY_H

#include "common/state.h"

typedef enum core_class_kind { CORE_ENUM = 1, CORE_DATACLASS, CORE_NAMED_TUPLE, CORE_EXCEPTION_CLASS } core_class_kind;

int core_registry_init(PyObject *module, core_state *state);
/* core_registry_name: the name a class is registered under, borrowed; NULL without an exception when it is not. */
PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls);
/* core_registry_class: the class behind a name, borrowed; NULL without an exception. */
PyObject *core_registry_class(PyObject *registry, PyObject *name);
/* core_registry_shape: what a registered class is, as it was found when it was registered. ret_fields: a tuple of the names
 * of a dataclass's or named tuple's fields, borrowed; else None. 0, or -1 with an exception. */
int core_registry_shape(PyObject *registry, PyObject *cls, core_class_kind *ret_kind, PyObject **ret_fields);
/* core_class_kind_of: 0 for a class that cannot be registered, -1 with an exception. */
int core_class_kind_of(PyObject *cls);
/* core_registry_combinations: a dict, borrowed, of what enums.c notes about classes of flags. */
PyObject *core_registry_combinations(PyObject *registry);

#endif
