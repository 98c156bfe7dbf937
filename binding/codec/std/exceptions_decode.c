/* exceptions_decode.c - decodes exceptions (exceptions.c).
 *
 * Whatever the peer sends, the resulting exception can be printed, logged, copied and raised. If its class would not
 * accept the arguments, or would have no text for them, the result is a RemoteError with the same arguments. Text that
 * is shown verbatim has no control characters except newlines and tabs. */
#include <string.h>

#include "codec/decode.h"
#include "common/printable.h"
#include "exceptions.h"

/* The parts of a received exception; NULL: not sent. */
typedef struct parts {
    PyObject *type, *args, *notes, *cause, *context, *suppress, *attributes, *text;
    PyObject *traceback; /* from core_read_traceback */
} parts;

static const char *const keys[] = {"type",     "args",       "notes", "cause",    "context",
                                   "suppress", "attributes", "text",  "traceback"};
#define PARTS     (sizeof keys / sizeof *keys)
#define TRACEBACK (PARTS - 1)

/* read_key: returns the index of a part, PARTS for an unknown part, or -1 for a key that is not a name. */
static int read_key(core_decoder *d, piso_reader *r) {
    piso_item key;
    if (core_read(d, r, PISO_STR, &key) < 0)
        return -1;
    size_t i = 0;
    while (i < PARTS &&
           !(strlen(keys[i]) == key.as.bytes.size && memcmp(keys[i], key.as.bytes.data, key.as.bytes.size) == 0))
        i++;
    return (int)i;
}

static void clear_parts(parts *p) {
    for (size_t i = 0; i < PARTS; i++)
        Py_CLEAR(((PyObject **)p)[i]);
}

/* read_parts: returns 0 or -1. */
static int read_parts(core_decoder *d, piso_reader *r, parts *p) {
    piso_item map;
    if (core_read(d, r, PISO_MAP, &map) < 0)
        return -1;
    for (size_t i = 0; i < map.as.count; i++) {
        int key = read_key(d, r);
        PyObject *value = key < 0 ? NULL : key == (int)TRACEBACK ? core_read_traceback(d, r) : core_decode_next(d, r);
        if (!value)
            return -1;
        if (key < (int)PARTS)
            Py_XSETREF(((PyObject **)p)[key], value);
        else
            Py_DECREF(value);
    }
    return 0;
}

/* ---- text ---- */

/* is_python: returns whether a class has a method of this name that is written in Python, not one of a built-in class or
 * of RemoteError. */
static bool is_python(PyTypeObject *type, const char *name) {
    PyObject *key = PyUnicode_FromString(name), *method = key ? _PyType_Lookup(type, key) : NULL;
    Py_XDECREF(key);
    return method && !Py_IS_TYPE(method, &PyWrapperDescr_Type) && !Py_IS_TYPE(method, &PyMethodDescr_Type);
}

static bool is_a(PyObject *cls, PyObject *base) {
    return PyType_IsSubtype((PyTypeObject *)cls, (PyTypeObject *)base);
}

/* is_shown: returns whether str() of an exception of this class shows the i-th of `count` arguments verbatim. Other
 * arguments are shown by their repr(), which has no control characters, or not at all. */
static bool is_shown(PyObject *cls, Py_ssize_t i, Py_ssize_t count) {
    if (is_python((PyTypeObject *)cls, "__str__"))
        return true;
    if (is_a(cls, PyExc_KeyError))
        return false;
    if (is_a(cls, PyExc_UnicodeEncodeError) || is_a(cls, PyExc_UnicodeDecodeError))
        return i == 0 || i == 4;
    if (is_a(cls, PyExc_UnicodeTranslateError))
        return i == 3;
    if (is_a(cls, PyExc_OSError))
        return i <= 1;
    if (is_a(cls, PyExc_SyntaxError) || is_a(cls, PyExc_ImportError))
        return i == 0;
#if PY_VERSION_HEX >= 0x030b0000
    if (is_a(cls, PyExc_BaseExceptionGroup))
        return i == 0;
#endif
    return count == 1;
}

/* clean_items: returns the items of a list as a tuple, with printable text. `cls`: the class whose arguments they are;
 * NULL: they are the second argument of a SyntaxError. */
static PyObject *clean_items(PyObject *cls, PyObject *list) {
    Py_ssize_t count = list ? PyList_GET_SIZE(list) : 0;
    PyObject *items = PyTuple_New(count);
    for (Py_ssize_t i = 0; items && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (PyUnicode_CheckExact(item) && (!cls || is_shown(cls, i, count)))
            item = core_printable(item, cls != NULL || i == 3); /* the line; not the file's name */
        else if (cls && i == 1 && PyList_CheckExact(item) && is_a(cls, PyExc_SyntaxError))
            item = clean_items(NULL, item);
        else
            Py_INCREF(item);
        if (item)
            PyTuple_SET_ITEM(items, i, item);
        else
            Py_CLEAR(items);
    }
    return items;
}

/* has_text: returns whether str() and repr() do not raise: 1, 0, -1 for errors that must be propagated. */
static int has_text(PyObject *error) {
    PyObject *text = PyObject_Str(error), *repr = text ? PyObject_Repr(error) : NULL;
    int r = repr ? 1 : PyErr_ExceptionMatches(PyExc_Exception) ? 0 : -1;
    if (r == 0)
        PyErr_Clear(); /* the class, or an argument's class, has no text for these values */
    Py_XDECREF(text);
    Py_XDECREF(repr);
    return r;
}

/* text_of: returns an argument as text. */
static PyObject *text_of(PyObject *value) {
    PyObject *text = PyObject_Repr(value);
    if (!text) {
        PyErr_Clear(); /* it has no text */
        text = PyUnicode_FromFormat("<%.200s>", Py_TYPE(value)->tp_name);
    }
    return text;
}

static PyObject *texts_of(PyObject *args) {
    PyObject *texts = PyTuple_New(PyTuple_GET_SIZE(args));
    for (Py_ssize_t i = 0; texts && i < PyTuple_GET_SIZE(args); i++) {
        PyObject *arg = PyTuple_GET_ITEM(args, i);
        PyObject *text = PyUnicode_CheckExact(arg) ? Py_NewRef(arg) : text_of(arg);
        if (text)
            PyTuple_SET_ITEM(texts, i, text);
        else
            Py_CLEAR(texts);
    }
    return texts;
}

/* ---- the instance ---- */

/* instantiate: calls built-in classes, for their fields; creates instances of other classes without __init__, whose
 * signature need not match args. */
static PyObject *instantiate(const core_exception_kind *k, PyObject *args) {
    bool as_usual = k->origin == CORE_BUILTIN || k->origin == CORE_REMOTE;
    PyObject *error = as_usual ? PyObject_Call(k->cls, args, NULL)
                               : ((PyTypeObject *)k->cls)->tp_new((PyTypeObject *)k->cls, args, NULL);
    if (error && !PyExceptionInstance_Check(error)) {
        PyErr_SetString(PyExc_TypeError, "the class makes no exceptions");
        Py_CLEAR(error);
    }
    if (error && !as_usual && PyObject_SetAttrString(error, "args", args) < 0)
        Py_CLEAR(error);
    return error;
}

/* set_attributes: returns 1, 0 when one has a value that it must not have, -1. */
static int set_attributes(core_decoder *d, PyObject *error, PyObject *attributes) {
    bool clean = is_python(Py_TYPE(error), "__str__");
    PyObject *name, *value;
    Py_ssize_t position = 0;
    int r = 1;
    if (!attributes || !PyDict_CheckExact(attributes))
        return 1;
    if (!core_charge(d, (uint64_t)PyDict_GET_SIZE(attributes) * CORE_COST_ATTRIBUTE))
        return -1;
    while (r > 0 && PyDict_Next(attributes, &position, &name, &value)) {
        value = clean && PyUnicode_CheckExact(value) ? core_printable(value, true) : Py_NewRef(value);
        r = value ? core_field_set(d->codec->state, error, name, value) : -1;
        Py_XDECREF(value);
    }
    return r;
}

/* fill: sets attributes and fields. Returns 1; 0 when the result is not to be trusted; -1. */
static int fill(core_decoder *d, const core_exception_kind *k, PyObject *error, const parts *p) {
    int r = set_attributes(d, error, p->attributes);
    if (r > 0)
        r = core_fields_check(d->codec->state, error, k->fields);
    bool in_python = k->origin == CORE_REGISTERED || k->origin == CORE_STANDARD;
    return r > 0 && (d->special || in_python) ? has_text(error) : r;
}

/* make: creates the exception with its class; NULL without an exception when it must be a RemoteError. */
static PyObject *make(core_decoder *d, const core_exception_kind *k, PyObject *args, const parts *p) {
    PyObject *error = instantiate(k, args);
    int r = error ? fill(d, k, error, p) : 0;
    if (r <= 0)
        Py_CLEAR(error);
    if (!error && !d->failed && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear(); /* its class does not accept such arguments, or its code raises */
    return error;
}

/* make_remote: creates a RemoteError, with a text as argument where the arguments have none. `cls`: its class; NULL:
 * that is to be made. */
static PyObject *make_remote(core_decoder *d, const parts *p, PyObject *cls) {
    core_exception_kind k = {.origin = CORE_REMOTE};
    k.cls = cls ? Py_NewRef(cls) : core_remote_class_charged(d, p->type);
    PyObject *args = k.cls ? clean_items(k.cls, p->args) : NULL, *error = args ? make(d, &k, args, p) : NULL;
    PyObject *texts = args && !error && !PyErr_Occurred() ? texts_of(args) : NULL;
    if (texts)
        error = PyObject_Call(k.cls, texts, NULL);
    if (error && p->text && PyUnicode_CheckExact(p->text) && core_set_text(error, p->text) < 0)
        Py_CLEAR(error);
    Py_XDECREF(texts);
    Py_XDECREF(args);
    Py_XDECREF(k.cls);
    return error;
}

/* not_stop: StopIteration cannot be raised out of an await; it becomes a RuntimeError, as from a coroutine. */
static PyObject *not_stop(PyObject *error) {
    if (!PyErr_GivenExceptionMatches(error, PyExc_StopIteration) &&
        !PyErr_GivenExceptionMatches(error, PyExc_StopAsyncIteration))
        return error;
    PyErr_Format(PyExc_RuntimeError, "the call raised %s", _PyType_Name(Py_TYPE(error)));
    PyObject *outer = core_fetch_exception();
    PyException_SetCause(outer, error);
    return outer;
}

/* ---- notes, traceback, cause ---- */

/* set_notes: sets __notes__ to text. Returns 0 or -1. */
static int set_notes(PyObject *error, PyObject *notes) {
    if (!notes || !PyList_CheckExact(notes) || PyList_GET_SIZE(notes) == 0)
        return 0;
    PyObject *texts = PyList_New(0);
    int r = texts ? 0 : -1;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(notes); i++) {
        PyObject *note = PyList_GET_ITEM(notes, i),
                 *text = PyUnicode_CheckExact(note) ? Py_NewRef(note) : text_of(note);
        PyObject *clean = text ? core_printable(text, true) : NULL;
        r = clean ? PyList_Append(texts, clean) : -1;
        Py_XDECREF(text);
        Py_XDECREF(clean);
    }
    if (r == 0)
        r = PyObject_SetAttrString(error, "__notes__", texts);
    Py_XDECREF(texts);
    return r;
}

static void set_chain(PyObject *error, const parts *p) {
    PyObject *context = p->context == Py_True ? p->cause : p->context;
    if (p->cause && PyExceptionInstance_Check(p->cause))
        PyException_SetCause(error, Py_NewRef(p->cause));
    if (context && PyExceptionInstance_Check(context))
        PyException_SetContext(error, Py_NewRef(context));
    if (p->suppress && PyBool_Check(p->suppress) &&
        PyObject_SetAttrString(error, "__suppress_context__", p->suppress) < 0)
        PyErr_Clear(); /* it cannot fail on an exception */
}

/* explain_downgrade: adds a note, because a printed traceback names the extension's class, which could be misread. */
static void explain_downgrade(PyObject *error) {
    PyObject *done = PyObject_CallMethod(error, "add_note", "s",
                                         "this is a RemoteError: the extension raised this exception, and it does not "
                                         "end or cancel anything in the host");
    if (!done)
        PyErr_Clear(); /* Python 3.10 has no notes */
    Py_XDECREF(done);
}

static PyObject *build(core_decoder *d, const parts *p) {
    PyObject *error = NULL;
    core_exception_kind kind;
    if (!p->type || !PyUnicode_CheckExact(p->type) || (p->args && !PyList_CheckExact(p->args)))
        return core_malformed(d, "an exception without a type");
    if (core_exception_class(d, p->type, &kind) < 0)
        return NULL;
    PyObject *args = kind.origin != CORE_REMOTE ? clean_items(kind.cls, p->args) : NULL;
    if (args)
        error = make(d, &kind, args, p);
    if (!error && !PyErr_Occurred())
        error = make_remote(d, p, kind.origin == CORE_REMOTE ? kind.cls : NULL);
    if (error && (set_notes(error, p->notes) < 0 || core_set_traceback(d->codec->state, error, p->traceback) < 0))
        Py_CLEAR(error);
    if (error) {
        if (kind.downgraded)
            explain_downgrade(error);
        set_chain(error, p);
        if (d->raises && d->exceptions == 1)
            error = not_stop(error);
    }
    Py_DECREF(kind.cls);
    Py_XDECREF(args);
    return error;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    parts p = {0};
    PyObject *error = NULL;
    bool special = d->special;
    d->special = false;
    d->exceptions++;
    if (read_parts(d, &r, &p) == 0) {
        if (r.cursor != r.end)
            core_malformed(d, "bytes after the end of an exception");
        else
            error = build(d, &p);
    }
    d->exceptions--;
    d->special |= special;
    d->weight = 1;
    clear_parts(&p);
    return error;
}

void core_exceptions_decode_init(core_state *state) {
    core_add_decoder(state, PISO_EXT_EXCEPTION, (core_decoder_entry){.decode = decode, .cost = 1000, .holds = true});
}
