/* exceptions.c - encodes exceptions: type, arguments, notes, cause, context, traceback.
 *
 * The payload is a map: "type" (module:qualname), "args", "notes", "cause", "context" (true: the same as the cause, as
 * after `raise ... from` in an except clause), "suppress", "traceback" ([file, line, function, source]...),
 * "attributes", "text" (if str() of the exception is not what its arguments give). exceptions_decode.c decodes it. */
#include <string.h>

#include "codec/registry.h"
#include "exceptions.h"

#define MAX_CHAIN  16 /* causes and contexts, one after the other */
#define MAX_LINKED 64 /* the same in the whole message: with both, each exception has two */

/* rollback: removes what was written since a mark. */
static void rollback(core_encoder *e, size_t size, uint32_t nspans) {
    piso_writer *w = e->w;
    if (w->nspans > nspans && e->codec->session) {
        piso_writer tail = {.spans = w->spans + nspans, .nspans = w->nspans - nspans};
        piso_session_discard_spans(e->codec->session, &tail);
    }
    w->nspans = nspans;
    w->size = size;
    w->error = 0;
}

/* encode_or_text: encodes the value, or its repr as text where it cannot be sent. */
static int encode_or_text(core_encoder *e, PyObject *value) {
    core_path at = {.kind = CORE_AT_ROOT, .root = "an argument of an exception"};
    size_t size = e->w->size;
    uint32_t nspans = e->w->nspans;
    int depth = e->depth;
    if (core_encode(e, value, &at) == 0 && e->w->error == 0)
        return 0;
    PyErr_Clear(); /* it cannot be sent */
    rollback(e, size, nspans);
    e->depth = depth;
    PyObject *text = PyObject_Repr(value);
    if (!text) {
        PyErr_Clear(); /* a repr that raises */
        text = PyUnicode_FromFormat("<%s>", Py_TYPE(value)->tp_name);
    }
    int r = text && PyUnicode_CheckExact(text) ? core_encode(e, text, &at) : -1;
    Py_XDECREF(text);
    return r;
}

static void write_key(core_encoder *e, const char *key) {
    piso_write_str(e->w, key, strlen(key));
}

/* type_name: returns the registered name of a class or of its base, else "module:qualname". */
static PyObject *type_name(core_codec *c, PyTypeObject *type) {
    PyObject *name = core_registry_exception(c->registry, type);
    if (name)
        return Py_NewRef(name);
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *qualname = module ? PyObject_GetAttrString((PyObject *)type, "__qualname__") : NULL;
    name = qualname ? PyUnicode_FromFormat("%S:%S", module, qualname) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return name;
}

static int write_type(core_encoder *e, PyObject *exception) {
    PyObject *name = type_name(e->codec, Py_TYPE(exception));
    write_key(e, "type");
    int r = name ? encode_or_text(e, name) : -1;
    Py_XDECREF(name);
    return r;
}

/* write_sequence: writes the items of a tuple or list. */
static int write_sequence(core_encoder *e, const char *key, PyObject *items) {
    write_key(e, key);
    PyObject *list = items ? PySequence_List(items) : PyList_New(0);
    int r = list ? 0 : -1;
    piso_write_array(e->w, list ? (size_t)PyList_GET_SIZE(list) : 0);
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(list); i++)
        r = encode_or_text(e, PyList_GET_ITEM(list, i));
    Py_XDECREF(list);
    return r;
}

static int encode_exception(core_encoder *e, PyObject *exception, int chain);

/* attributes_of: returns all attributes of an exception. */
static PyObject *attributes_of(PyObject *exception) {
    PyObject *dict = core_attribute(exception, "__dict__"), *copy = dict ? PyDict_Copy(dict) : PyDict_New();
    Py_XDECREF(dict);
    if (!copy || core_fields_add(exception, copy) < 0) {
        Py_XDECREF(copy);
        return NULL;
    }
    if (PyDict_GetItemString(copy, "__notes__"))
        PyDict_DelItemString(copy, "__notes__");
    return copy;
}

static int write_attributes(core_encoder *e, PyObject *exception, bool whole) {
    PyObject *copy = whole ? attributes_of(exception) : core_reduced_attributes(exception);
    if (!copy)
        return -1;
    write_key(e, "attributes");
    piso_write_map(e->w, (size_t)PyDict_GET_SIZE(copy));
    Py_ssize_t position = 0;
    PyObject *name, *value;
    int r = 0;
    while (r == 0 && PyDict_Next(copy, &position, &name, &value))
        r = encode_or_text(e, name) < 0 || encode_or_text(e, value) < 0;
    Py_DECREF(copy);
    return r ? -1 : 0;
}

static int write_linked(core_encoder *e, const char *key, PyObject *exception, int chain) {
    write_key(e, key);
    int r = 0;
    if (exception && chain < MAX_CHAIN && e->linked < MAX_LINKED) {
        e->linked++;
        r = encode_exception(e, exception, chain + 1);
    } else {
        piso_write_nil(e->w);
    }
    Py_XDECREF(exception);
    return r;
}

/* write_links: writes cause and context. They are usually the same, and then written once. */
static int write_links(core_encoder *e, PyObject *exception, int chain) {
    if (e->codec->text_only) {
        write_linked(e, "cause", NULL, chain);
        return write_linked(e, "context", NULL, chain);
    }
    PyObject *cause = PyException_GetCause(exception), *context = PyException_GetContext(exception);
    bool same = cause && cause == context;
    if (write_linked(e, "cause", cause, chain) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    if (!same)
        return write_linked(e, "context", context, chain);
    Py_DECREF(context);
    write_key(e, "context");
    piso_write_bool(e->w, true);
    return 0;
}

/* own_text: returns str() of an exception whose class has a __str__ of its own; NULL without an exception for others,
 * whose text the receiver makes of the arguments. */
static PyObject *own_text(PyObject *exception) {
    PyTypeObject *type = Py_TYPE(exception), *base = (PyTypeObject *)PyExc_BaseException;
    if (type->tp_str == base->tp_str || core_is_builtin_exception(type))
        return NULL;
    PyObject *text = PyObject_Str(exception), *usual = text ? base->tp_str(exception) : NULL;
    if (usual && PyUnicode_Compare(text, usual) == 0)
        Py_CLEAR(text);
    Py_XDECREF(usual);
    PyErr_Clear(); /* a __str__ that raises, of the class or of an argument */
    if (text)
        Py_SETREF(text, PyUnicode_FromObject(text)); /* of a subclass: its storage */
    return text;
}

static int write_text(core_encoder *e, PyObject *text) {
    write_key(e, "text");
    return encode_or_text(e, text);
}

static int encode_exception(core_encoder *e, PyObject *exception, int chain) {
    bool exceptions = e->exceptions;
    e->exceptions = true;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_EXCEPTION);
    bool whole = core_is_sent_whole(e->codec, exception);
    PyObject *args = whole ? core_attribute(exception, "args") : core_reduced_args(exception);
    PyObject *notes = whole ? core_attribute(exception, "__notes__") : NULL;
    PyObject *suppress = core_attribute(exception, "__suppress_context__");
    PyObject *text = whole ? own_text(exception) : NULL;
    piso_write_map(e->w, text ? 9 : 8);
    int r = !whole && !args ? -1 : write_type(e, exception);
    if (r == 0)
        r = write_sequence(e, "args", args);
    if (r == 0)
        r = write_sequence(e, "notes", notes && (PyList_Check(notes) || PyTuple_Check(notes)) ? notes : NULL);
    if (r == 0)
        r = write_links(e, exception, chain);
    if (r == 0) {
        write_key(e, "suppress");
        piso_write_bool(e->w, suppress == Py_True);
        write_key(e, "traceback");
        r = e->codec->text_only ? core_write_no_traceback(e) : core_write_traceback(e, exception);
    }
    if (r == 0)
        r = write_attributes(e, exception, whole);
    if (r == 0 && text)
        r = write_text(e, text);
    piso_write_ext_end(e->w, mark);
    Py_XDECREF(args);
    Py_XDECREF(notes);
    Py_XDECREF(suppress);
    Py_XDECREF(text);
    e->exceptions = exceptions;
    return r;
}

int core_encode_exception(core_codec *c, piso_writer *w, PyObject *exception) {
    core_encoder e = {.codec = c, .w = w};
    if (encode_exception(&e, exception, 0) == 0 && w->error == 0)
        return 0;
    /* out of memory, or an exception class that raises from everything: send at least its name */
    PyErr_Clear(); /* the first exception is the one that is reported */
    core_codec_abandon(c, w);
    size_t mark = piso_write_ext_begin(w, PISO_EXT_EXCEPTION);
    piso_write_map(w, 1);
    write_key(&e, "type");
    write_key(&e, Py_TYPE(exception)->tp_name);
    piso_write_ext_end(w, mark);
    return w->error ? -1 : 0;
}

static int encode(core_encoder *e, PyObject *value, const core_path *Py_UNUSED(path)) {
    if (!PyExceptionInstance_Check(value))
        return 0;
    return encode_exception(e, value, 0) < 0 ? -1 : 1;
}

void core_exceptions_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode});
}
