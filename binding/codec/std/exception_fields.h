/* exception_fields.h - the attributes that exceptions keep in addition to their args, and the values that they may
 * have. */
#ifndef BINDING_EXCEPTION_FIELDS_H
#define BINDING_EXCEPTION_FIELDS_H

#include "std.h"

/* core_attribute: returns an attribute that may be missing; a new reference or NULL without an exception. */
static inline PyObject *core_attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value)
        PyErr_Clear(); /* it is missing */
    return value;
}

typedef enum core_field_kind {
    CORE_FIELD_TEXT = 1, /* str or None; shown, so control characters are escaped */
    CORE_FIELD_NAME,     /* the same, within a line */
    CORE_FIELD_LINE,     /* the same; a longer one is omitted */
    CORE_FIELD_STR,
    CORE_FIELD_BYTES,     /* of UnicodeErrors; unset: None */
    CORE_FIELD_INTEGER,   /* of 64 bits, or None */
    CORE_FIELD_COLUMN,    /* int or None; one that is too large is omitted */
    CORE_FIELD_NUMBER,    /* int or float */
    CORE_FIELD_FILE_NAME, /* str, bytes, descriptor, path or None */
    CORE_FIELD_DATA,      /* str, bytes or None */
    CORE_FIELD_COMMAND,   /* str, bytes, path, list or tuple */
    CORE_FIELD_FLAG,      /* bool or None */
    CORE_FIELD_NEVER,     /* nothing */
} core_field_kind;

/* core_field: an attribute that an exception keeps in addition to its args, and the values that it may have. */
typedef struct core_field {
    const char *name; /* NULL: end of the table */
    core_field_kind kind;
    bool beside_args; /* of a class in C: never in args; of another class: may be missing */
} core_field;
extern const core_field core_called_process_fields[], core_timeout_expired_fields[], core_json_fields[],
    core_died_fields[];

/* core_fields_add: adds fields that an exception keeps neither in args nor in __dict__. Returns 0 or -1. */
int core_fields_add(PyObject *exception, PyObject *attributes);
/* core_field_set: sets an attribute that was sent with an exception; those that must not be set are skipped. Returns 1,
 * or 0, without an exception, when it is a field and the value has the wrong type. */
int core_field_set(core_state *state, PyObject *error, PyObject *name, PyObject *value);
/* core_fields_check: checks that all fields have the types that CPython's code, and the code of the class, expect, and
 * makes their text printable. `own`: the fields of the class, which must exist; or NULL. Returns 1, 0 without an
 * exception, -1. */
int core_fields_check(core_state *state, PyObject *error, const core_field *own);

#endif
