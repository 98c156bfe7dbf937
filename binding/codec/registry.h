/* registry.h - the classes whose instances may be created from messages. */
#ifndef BINDING_REGISTRY_H
#define BINDING_REGISTRY_H

#include "common/state.h"

typedef enum core_class_kind {
    CORE_ENUM = 1,
    CORE_DATACLASS,
    CORE_NAMED_TUPLE,
    CORE_EXCEPTION_CLASS,
    CORE_CUSTOM,      /* registered with encode and decode */
    CORE_BY_REFERENCE /* registered with by_ref */
} core_class_kind;

/* Characters of the name of a class that is registered with encode and decode. */
#define CORE_MAX_REGISTERED_NAME 200

int core_registry_init(PyObject *module, core_state *state);
/* core_registry_name: returns the name under which a class is registered, borrowed; NULL without an exception when it
 * is not registered. */
PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls);
/* core_registry_class: returns the class registered under a name, borrowed; NULL without an exception. */
PyObject *core_registry_class(PyObject *registry, PyObject *name);
/* core_registry_shape: gets the kind of a registered class, as it was when it was registered. ret_fields: a tuple of
 * the names of a dataclass's or named tuple's fields, or of the methods that a reference permits, borrowed; else None. Returns 0, or -1 with an exception. */
int core_registry_shape(PyObject *registry, PyObject *cls, core_class_kind *ret_kind, PyObject **ret_fields);
/* core_registry_custom: returns whether a class itself, not a base of it, is registered with encode and decode or with
 * by_ref. */
bool core_registry_custom(PyObject *registry, PyTypeObject *cls);
/* core_registry_base: returns the first base of a class that is registered with `subclasses`, borrowed; NULL without an
 * exception. */
PyTypeObject *core_registry_base(PyObject *registry, PyTypeObject *cls);
/* core_registry_exception: returns the name under which exceptions of a class are sent, borrowed: that of the class, or of
 * the first base that is registered with `subclasses`. NULL without an exception when there is none. */
PyObject *core_registry_exception(PyObject *registry, PyTypeObject *cls);
/* core_registry_function: returns the encode or decode function of a class of the kind CORE_CUSTOM, borrowed. */
PyObject *core_registry_function(PyObject *registry, PyObject *cls, bool decode);
/* core_class_kind_of: returns the kind of a class, 0 for a class that cannot be registered, or -1 with an exception. */
int core_class_kind_of(PyObject *cls);
/* core_registry_combinations: returns a borrowed dict in which enums.c keeps counts for classes of flags. */
PyObject *core_registry_combinations(PyObject *registry);

#endif
