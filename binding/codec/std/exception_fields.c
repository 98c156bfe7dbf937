/* exception_fields.c - the attributes that exceptions keep in addition to their args.
 *
 * CPython's code trusts these fields when it prints an exception: UnicodeDecodeError reads its object at `start`;
 * tracebacks import the module that an ImportError names, search the attributes of an AttributeError's `obj`, and mark
 * as many columns as a SyntaxError says. The tables define the type of each field; an exception with another value in
 * one arrives as a RemoteError. A version of Python that has more fields needs more rows. */
#include <string.h>

#include "codec/decode.h"
#include "common/printable.h"
#include "exceptions.h"

#define MAX_COLUMN 10000 /* characters of a line that are marked */
#define MAX_LINE   1000000000
#define MAX_NAME   1000

static const core_field encode_fields[] = {
    {"encoding", CORE_FIELD_NAME, false}, {"object", CORE_FIELD_STR, false},  {"start", CORE_FIELD_INTEGER, false},
    {"end", CORE_FIELD_INTEGER, false},   {"reason", CORE_FIELD_TEXT, false}, {NULL, 0, false},
};
static const core_field decode_fields[] = {
    {"encoding", CORE_FIELD_NAME, false}, {"object", CORE_FIELD_BYTES, false}, {"start", CORE_FIELD_INTEGER, false},
    {"end", CORE_FIELD_INTEGER, false},   {"reason", CORE_FIELD_TEXT, false},  {NULL, 0, false},
};
static const core_field syntax_fields[] = {
    {"msg", CORE_FIELD_TEXT, false},          {"filename", CORE_FIELD_NAME, false},
    {"lineno", CORE_FIELD_COLUMN, false},     {"offset", CORE_FIELD_COLUMN, false},
    {"end_lineno", CORE_FIELD_COLUMN, false}, {"end_offset", CORE_FIELD_COLUMN, false},
    {"text", CORE_FIELD_LINE, false},         {"print_file_and_line", CORE_FIELD_FLAG, false},
    {"_metadata", CORE_FIELD_NEVER, false},   {NULL, 0, false},
};
static const core_field os_fields[] = {
    {"errno", CORE_FIELD_INTEGER, true},
    {"strerror", CORE_FIELD_TEXT, true},
    {"filename", CORE_FIELD_FILE_NAME, true},
    {"filename2", CORE_FIELD_FILE_NAME, true},
    {NULL, 0, false},
};
static const core_field import_fields[] = {
    {"msg", CORE_FIELD_TEXT, false},
    {"name", CORE_FIELD_NAME, true},
    {"path", CORE_FIELD_NAME, true},
    {"name_from", CORE_FIELD_NEVER, false},
    {NULL, 0, false},
};
static const core_field name_fields[] = {{"name", CORE_FIELD_NAME, true}, {NULL, 0, false}};
static const core_field attribute_fields[] = {
    {"name", CORE_FIELD_NAME, true}, {"obj", CORE_FIELD_NEVER, false}, {NULL, 0, false}};

static const struct {
    PyObject *const *cls;
    const core_field *fields;
} groups[] = {
    {&PyExc_UnicodeEncodeError, encode_fields},
    {&PyExc_UnicodeDecodeError, decode_fields},
    {&PyExc_UnicodeTranslateError, encode_fields},
    {&PyExc_SyntaxError, syntax_fields},
    {&PyExc_OSError, os_fields},
    {&PyExc_ImportError, import_fields},
    {&PyExc_NameError, name_fields},
    {&PyExc_AttributeError, attribute_fields},
};
#define GROUPS (sizeof groups / sizeof *groups)

/* Of classes that keep their fields in __dict__. */
const core_field core_called_process_fields[] = {
    {"returncode", CORE_FIELD_INTEGER, false},
    {"cmd", CORE_FIELD_COMMAND, false},
    {"output", CORE_FIELD_DATA, false},
    {"stderr", CORE_FIELD_DATA, false},
    {NULL, 0, false},
};
const core_field core_timeout_expired_fields[] = {
    {"cmd", CORE_FIELD_COMMAND, false},
    {"timeout", CORE_FIELD_NUMBER, false},
    {"output", CORE_FIELD_DATA, false},
    {"stderr", CORE_FIELD_DATA, false},
    {NULL, 0, false},
};
const core_field core_json_fields[] = {
    {"msg", CORE_FIELD_TEXT, false},       {"doc", CORE_FIELD_STR, false},       {"pos", CORE_FIELD_INTEGER, false},
    {"lineno", CORE_FIELD_INTEGER, false}, {"colno", CORE_FIELD_INTEGER, false}, {NULL, 0, false},
};
const core_field core_died_fields[] = {
    {"name", CORE_FIELD_NAME, true},   {"pid", CORE_FIELD_INTEGER, true}, {"returncode", CORE_FIELD_INTEGER, true},
    {"signal", CORE_FIELD_NAME, true}, {"stderr", CORE_FIELD_TEXT, true}, {NULL, 0, false},
};

/* ---- checking values ---- */

static bool is_integer(PyObject *value) {
    int overflow = 1;
    if (PyLong_CheckExact(value))
        PyLong_AsLongLongAndOverflow(value, &overflow);
    return !overflow;
}

static bool is_path(core_state *state, PyObject *value) {
    PyObject *paths = state->std->paths;
    return paths && PyDict_GetItemString(paths, _PyType_Name(Py_TYPE(value))) == (PyObject *)Py_TYPE(value);
}

static bool is_data(PyObject *value) {
    return PyUnicode_CheckExact(value) || PyBytes_CheckExact(value);
}

static bool fits(core_state *state, core_field_kind kind, PyObject *value) {
    bool is_none = value == Py_None;
    switch (kind) {
    case CORE_FIELD_TEXT:
    case CORE_FIELD_NAME:
    case CORE_FIELD_LINE:
        return is_none || PyUnicode_CheckExact(value);
    case CORE_FIELD_STR:
        return PyUnicode_CheckExact(value);
    case CORE_FIELD_BYTES:
        return PyBytes_CheckExact(value);
    case CORE_FIELD_INTEGER:
        return is_none || is_integer(value);
    case CORE_FIELD_COLUMN:
        return is_none || PyLong_CheckExact(value);
    case CORE_FIELD_NUMBER:
        return is_integer(value) || PyFloat_CheckExact(value);
    case CORE_FIELD_FILE_NAME:
        return is_none || is_data(value) || is_integer(value) || is_path(state, value);
    case CORE_FIELD_DATA:
        return is_none || is_data(value);
    case CORE_FIELD_COMMAND:
        return is_data(value) || PyList_CheckExact(value) || PyTuple_CheckExact(value) || is_path(state, value);
    case CORE_FIELD_FLAG:
        return is_none || PyBool_Check(value);
    default:
        return is_none;
    }
}

/* cleaned: returns the value to store for an accepted value. New reference. */
static PyObject *cleaned(const core_field *f, PyObject *value) {
    if (value == Py_None)
        return Py_NewRef(value);
    if (f->kind == CORE_FIELD_TEXT)
        return core_printable(value, true);
    if (f->kind == CORE_FIELD_NAME)
        return core_name(value, MAX_NAME, false);
    if (f->kind == CORE_FIELD_LINE)
        return PyUnicode_GET_LENGTH(value) > MAX_COLUMN ? Py_NewRef(Py_None) : core_printable(value, true);
    if (f->kind == CORE_FIELD_COLUMN) {
        int overflow;
        long long most = strstr(f->name, "offset") ? MAX_COLUMN : MAX_LINE;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return Py_NewRef(overflow || number < 0 || number > most ? Py_None : value);
    }
    return Py_NewRef(value);
}

/* ---- fields in C ---- */

/* descriptor: returns the descriptor of a field, from the built-in class: a subclass may define something else under
 * its name. Borrowed, or NULL without an exception where this version has no such field. */
static PyObject *descriptor(PyObject *cls, const char *name) {
    PyObject *key = PyUnicode_FromString(name);
    PyObject *found = key ? _PyType_Lookup((PyTypeObject *)cls, key) : NULL;
    Py_XDECREF(key);
    return found && Py_TYPE(found)->tp_descr_get && Py_TYPE(found)->tp_descr_set ? found : NULL;
}

static PyObject *get(PyObject *field, PyObject *error) {
    return Py_TYPE(field)->tp_descr_get(field, error, (PyObject *)Py_TYPE(error));
}

static bool in_group(size_t group, PyObject *error) {
    return PyErr_GivenExceptionMatches(error, *groups[group].cls);
}

int core_fields_add(PyObject *exception, PyObject *attributes) {
    for (size_t i = 0; i < GROUPS; i++) {
        bool exact = (PyObject *)Py_TYPE(exception) == *groups[i].cls;
        for (const core_field *f = groups[i].fields; f->name && in_group(i, exception); f++) {
            PyObject *field =
                f->kind != CORE_FIELD_NEVER && (f->beside_args || !exact) ? descriptor(*groups[i].cls, f->name) : NULL;
            PyObject *value = field ? get(field, exception) : NULL;
            PyErr_Clear(); /* it is unset */
            int r = value && value != Py_None ? PyDict_SetItemString(attributes, f->name, value) : 0;
            Py_XDECREF(value);
            if (r < 0)
                return -1;
        }
    }
    return 0;
}

/* check_field: returns 1, 0, -1. An unset field may be None, whatever its type. */
static int check_field(core_state *state, PyObject *error, PyObject *cls, const core_field *f) {
    PyObject *field = descriptor(cls, f->name), *value = field ? get(field, error) : NULL;
    if (!value) {
        PyErr_Clear(); /* not in this version, or unset */
        return 1;
    }
    int r = value == Py_None || fits(state, f->kind, value);
    PyObject *better = r ? cleaned(f, value) : NULL;
    if (r && (!better || (better != value && Py_TYPE(field)->tp_descr_set(field, error, better) < 0)))
        r = -1;
    Py_XDECREF(value);
    Py_XDECREF(better);
    return r;
}

/* check_positions: checks that a UnicodeError's positions are inside its object. Returns 1, 0, -1. */
static int check_positions(PyObject *error, PyObject *cls) {
    static const char *const names[] = {"object", "start", "end"};
    PyObject *values[3] = {NULL};
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++) {
        PyObject *field = descriptor(cls, names[i]);
        r = field && (values[i] = get(field, error)) ? 0 : -1;
    }
    if (r == 0 && values[0] == Py_None) {
        r = 1; /* never initialised: it has no text */
    } else if (r == 0) {
        Py_ssize_t size = PyBytes_Check(values[0]) ? PyBytes_GET_SIZE(values[0]) : PyUnicode_GET_LENGTH(values[0]);
        Py_ssize_t start = PyLong_AsSsize_t(values[1]), end = PyLong_AsSsize_t(values[2]);
        r = start >= 0 && start < end && end <= size;
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(values[i]);
    return r;
}

/* check_own: checks a field of the class in __dict__. Returns 1, 0, -1. */
static int check_own(core_state *state, PyObject *error, const core_field *f) {
    PyObject *value = core_attribute(error, f->name);
    if (!value && f->beside_args)
        return 1;
    int r = value && fits(state, f->kind, value);
    PyObject *better = r ? cleaned(f, value) : NULL, *name = better ? PyUnicode_FromString(f->name) : NULL;
    if (r && (!name || (better != value && PyObject_GenericSetAttr(error, name, better) < 0)))
        r = -1;
    Py_XDECREF(value);
    Py_XDECREF(better);
    Py_XDECREF(name);
    return r;
}

int core_fields_check(core_state *state, PyObject *error, const core_field *own) {
    int r = 1;
    for (size_t i = 0; i < GROUPS; i++) {
        if (!in_group(i, error))
            continue;
        for (const core_field *f = groups[i].fields; r > 0 && f->name; f++)
            r = check_field(state, error, *groups[i].cls, f);
        if (r > 0 && (groups[i].fields == encode_fields || groups[i].fields == decode_fields))
            r = check_positions(error, *groups[i].cls);
    }
    for (const core_field *f = own; r > 0 && f && f->name; f++)
        r = check_own(state, error, f);
    return r;
}

/* ---- received attributes ---- */

/* is_settable: refuses attributes that would replace a method of the class, or change what a RemoteError says about its
 * class. */
static bool is_settable(core_state *state, PyObject *error, PyObject *name) {
    PyObject *there = _PyType_Lookup(Py_TYPE(error), name);
    return PyUnicode_GET_LENGTH(name) <= CORE_MAX_ATTRIBUTE && PyUnicode_READ_CHAR(name, 0) != '_' &&
           !(there && PyCallable_Check(there)) && PyUnicode_CompareWithASCIIString(name, "args") != 0 &&
           !(PyUnicode_CompareWithASCIIString(name, "type_name") == 0 &&
             PyErr_GivenExceptionMatches(error, state->remote_error));
}

int core_field_set(core_state *state, PyObject *error, PyObject *name, PyObject *value) {
    if (!PyUnicode_CheckExact(name) || !is_settable(state, error, name))
        return 1;
    for (size_t i = 0; i < GROUPS; i++)
        for (const core_field *f = groups[i].fields; f->name && in_group(i, error); f++) {
            if (PyUnicode_CompareWithASCIIString(name, f->name) != 0)
                continue;
            if (f->kind == CORE_FIELD_NEVER)
                return 1;
            if (!fits(state, f->kind, value))
                return 0;
        }
    if (PyObject_GenericSetAttr(error, name, value) < 0)
        PyErr_Clear(); /* an attribute that this class does not allow to be set */
    return 1;
}
