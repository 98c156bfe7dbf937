/* exception_fields.h - what exceptions keep beside their args, and what it may be. */
#ifndef BINDING_EXCEPTION_FIELDS_H
#define BINDING_EXCEPTION_FIELDS_H

#include "std.h"

/* core_attribute: one that may be missing; a new reference or NULL without an exception. */
static inline PyObject *core_attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value)
        PyErr_Clear(); /* not there */
    return value;
}

typedef enum core_field_kind {
    CORE_FIELD_TEXT = 1, /* str or None; shown, so control characters are replaced */
    CORE_FIELD_NAME,     /* the same, in a line */
    CORE_FIELD_LINE,     /* the same; a longer one is left out */
    CORE_FIELD_STR,
    CORE_FIELD_BYTES,     /* of UnicodeErrors; not set: None */
    CORE_FIELD_INTEGER,   /* of 64 bits, or None */
    CORE_FIELD_COLUMN,    /* int or None; one that is too large is left out */
    CORE_FIELD_NUMBER,    /* int or float */
    CORE_FIELD_FILE_NAME, /* str, bytes, descriptor, path or None */
    CORE_FIELD_DATA,      /* str, bytes or None */
    CORE_FIELD_COMMAND,   /* str, bytes, path, list or tuple */
    CORE_FIELD_FLAG,      /* bool or None */
    CORE_FIELD_NEVER,     /* nothing */
} core_field_kind;

/* core_field: what an exception keeps beside its args, and what it may be. */
typedef struct core_field {
    const char *name; /* NULL: the end */
    core_field_kind kind;
    bool beside_args; /* of a class in C: never in args; of another one: need not be there */
} core_field;
extern const core_field core_called_process_fields[], core_timeout_expired_fields[], core_json_fields[],
    core_died_fields[];

/* core_fields_add: fields that an exception keeps neither in args nor in __dict__. 0 or -1. */
int core_fields_add(PyObject *exception, PyObject *attributes);
/* core_field_set: an attribute that came with an exception; those that may not be set are passed over. 1, or 0, without an
 * exception, when it is a field of another type than it may have. */
int core_field_set(core_state *state, PyObject *error, PyObject *name, PyObject *value);
/* core_fields_check: whether all fields are what CPython's own code, and that of the class, takes them for; their text is
 * made printable. `own`: those of the class, which have to be there; or NULL. 1, 0 without an exception, -1. */
int core_fields_check(core_state *state, PyObject *error, const core_field *own);

#endif
