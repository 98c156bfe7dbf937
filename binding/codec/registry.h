/* registry.h - the classes whose instances may be created from messages. */
#ifndef BINDING_REGISTRY_H
#define BINDING_REGISTRY_H

#include "common/state.h"

typedef enum core_class_kind { CORE_ENUM = 1, CORE_DATACLASS, CORE_NAMED_TUPLE, CORE_EXCEPTION_CLASS } core_class_kind;

int core_registry_init(PyObject *module, core_state *state);
/* core_registry_name: returns the name under which a class is registered, borrowed; NULL without an exception when it
 * is not registered. */
PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls);
/* core_registry_class: returns the class registered under a name, borrowed; NULL without an exception. */
PyObject *core_registry_class(PyObject *registry, PyObject *name);
/* core_registry_shape: gets the kind of a registered class, as it was when it was registered. ret_fields: a tuple of
 * the names of a dataclass's or named tuple's fields, borrowed; else None. Returns 0, or -1 with an exception. */
int core_registry_shape(PyObject *registry, PyObject *cls, core_class_kind *ret_kind, PyObject **ret_fields);
/* core_class_kind_of: returns the kind of a class, 0 for a class that cannot be registered, or -1 with an exception. */
int core_class_kind_of(PyObject *cls);
/* core_registry_combinations: returns a borrowed dict in which enums.c keeps counts for classes of flags. */
PyObject *core_registry_combinations(PyObject *registry);

#endif
