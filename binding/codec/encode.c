/* encode.c - converts Python objects to MessagePack, by exact type (codec.h). */
#include <errno.h>
#include <string.h>

#include "buffer_ref.h"
#include "remedies.h"
#include "tables.h"

#define COPY_WITHOUT_GIL (256u << 10)

/* ---- errors ---- */

/* path_text: returns the text of a path, such as "argument 1['mask'][3]"; a new reference. */
static PyObject *path_text(const core_path *p) {
    if (p->kind == CORE_AT_ROOT)
        return PyUnicode_FromString(p->root);
    if (p->kind == CORE_AT_ARGUMENT)
        return p->key ? PyUnicode_FromFormat("argument %R", p->key) : PyUnicode_FromFormat("argument %zd", p->index);
    PyObject *parent = path_text(p->parent), *text = NULL;
    if (!parent)
        return NULL;
    if (p->kind == CORE_AT_INDEX)
        text = PyUnicode_FromFormat("%U[%zd]", parent, p->index);
    else if (p->kind == CORE_AT_KEY)
        text = PyUnicode_FromFormat("%U[%R]", parent, p->key);
    else if (p->kind == CORE_AT_FIELD)
        text = PyUnicode_FromFormat("%U.%S", parent, p->key);
    else if (p->kind == CORE_ENCODED)
        text = PyUnicode_FromFormat("encode(%U)", parent);
    else
        text = PyUnicode_FromFormat("an element of %U", parent);
    Py_DECREF(parent);
    return text;
}

int core_encode_error(const core_path *path, PyObject *value, const char *remedy) {
    PyObject *where = path_text(path);
    PyTypeObject *type = Py_TYPE(value);
    PyObject *module = where ? PyObject_GetAttrString((PyObject *)type, "__module__") : NULL;
    PyObject *name = module ? PyObject_GetAttrString((PyObject *)type, "__qualname__") : NULL;
    if (name)
        PyErr_Format(PyExc_TypeError, "%U: objects of type '%S.%S' cannot be sent; %s", where, module, name, remedy);
    Py_XDECREF(where);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return -1;
}

static int too_deep(const core_path *path) {
    const core_path *step = path, *below = path; /* the whole path would have a hundred steps */
    for (; step->parent; step = step->parent)
        below = step;
    PyObject *where = path_text(below);
    if (where)
        PyErr_Format(
            PyExc_ValueError,
            "%U: it contains itself, or its values are nested deeper than %d levels; send a flat structure, for "
            "example a list of items that refer to each other by index",
            where, PISO_MAX_DEPTH);
    Py_XDECREF(where);
    return -1;
}

static int changed_size(const core_path *path) {
    PyObject *where = path_text(path);
    if (where)
        PyErr_Format(PyExc_RuntimeError, "%U changed size during encoding; do not modify values while they are sent",
                     where);
    Py_XDECREF(where);
    return -1;
}

static int writer_error(core_encoder *e) {
    core_raise(e->codec->state, e->w->error, "encoding");
    return -1;
}

/* ---- scalars ---- */

/* encode_big: writes two's complement, little endian; int.to_bytes is the public API for it. */
static int encode_big(core_encoder *e, PyObject *value) {
    PyObject *bits = PyObject_CallMethod(value, "bit_length", NULL);
    Py_ssize_t size = bits ? PyLong_AsSsize_t(bits) / 8 + 1 : -1;
    Py_XDECREF(bits);
    if (size < 0)
        return -1;
    PyObject *method = PyObject_GetAttrString(value, "to_bytes");
    PyObject *args = method ? Py_BuildValue("(ns)", size, "little") : NULL;
    PyObject *options = args ? Py_BuildValue("{s:O}", "signed", Py_True) : NULL;
    PyObject *bytes = options ? PyObject_Call(method, args, options) : NULL;
    if (bytes)
        piso_write_ext(e->w, PISO_EXT_BIGINT, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(options);
    Py_XDECREF(bytes);
    return bytes ? 0 : -1;
}

static int encode_int(core_encoder *e, PyObject *value) {
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow) {
        piso_write_int(e->w, number);
        return 0;
    }
    if (overflow > 0) {
        unsigned long long large = PyLong_AsUnsignedLongLong(value);
        if (!PyErr_Occurred()) {
            piso_write_uint(e->w, large);
            return 0;
        }
        PyErr_Clear(); /* more than 64 bits */
    }
    return encode_big(e, value);
}

/* encode_str: writes ASCII as it is stored; other text through a temporary object, so that the str does not cache its
 * UTF-8. */
static int encode_str(core_encoder *e, PyObject *value) {
    if (PyUnicode_IS_COMPACT_ASCII(value)) {
        piso_write_str(e->w, (const char *)PyUnicode_1BYTE_DATA(value), (size_t)PyUnicode_GET_LENGTH(value));
        return 0;
    }
    PyObject *utf8 = PyUnicode_AsUTF8String(value);
    if (utf8) {
        piso_write_str(e->w, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8));
    } else {
        PyErr_Clear(); /* lone surrogates: sent unchanged, in generalised UTF-8 */
        utf8 = PyUnicode_AsEncodedString(value, "utf-8", "surrogatepass");
        if (!utf8)
            return -1;
        piso_write_ext(e->w, PISO_EXT_STR, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8));
    }
    Py_DECREF(utf8);
    return 0;
}

static int encode_complex(core_encoder *e, PyObject *value) {
    double parts[2] = {PyComplex_RealAsDouble(value), PyComplex_ImagAsDouble(value)};
    piso_write_ext(e->w, PISO_EXT_COMPLEX, parts, sizeof parts);
    return 0;
}

/* ---- bytes ---- */

/* write_buffer: writes the reference to a span of this message. */
static int write_buffer(core_encoder *e, int index) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_BUFFER);
    piso_write_int(e->w, index);
    piso_write_ext_end(e->w, mark);
    return 0;
}

static int encode_buffer(core_encoder *e, const void *data, size_t size) {
    piso_span span;
    void *to;
    int r = piso_session_alloc(e->codec->session, size, &span, &to);
    if (r == -ENOMEM || r == -EDQUOT) {
        e->codec->state->peers->make_room(e->codec->state);
        r = piso_session_alloc(e->codec->session, size, &span, &to);
    }
    if (r < 0) {
        core_raise(e->codec->state, r, "sending a large value");
        return -1;
    }
    int index = piso_writer_add_span(e->w, &span);
    if (index < 0) {
        piso_writer single;
        piso_writer_init(&single);
        piso_writer_add_span(&single, &span);
        piso_session_discard_spans(e->codec->session, &single);
        piso_writer_fini(&single);
        return writer_error(e);
    }
    if (size >= COPY_WITHOUT_GIL) {
        Py_BEGIN_ALLOW_THREADS memcpy(to, data, size);
        Py_END_ALLOW_THREADS
    } else {
        memcpy(to, data, size);
    }
    return write_buffer(e, index);
}

int core_encode_data(core_encoder *e, const void *data, size_t size) {
    /* A message has a limited number of buffers, and its own body may need one; later values are inline. */
    if (size >= PISO_BUFFER_THRESHOLD && e->codec->session && e->w->nspans < PISO_MAX_SPANS - 1)
        return encode_buffer(e, data, size);
    piso_write_bin(e->w, data, size);
    return 0;
}

int core_encode_owned(core_encoder *e, PyObject *owner, const void *data, size_t size) {
    if (owner && size >= PISO_BUFFER_THRESHOLD && e->w->nspans < PISO_MAX_SPANS - 1) {
        int index = core_buffer_ref_return(e->codec->state, owner, e->codec->session, e->w, data, size);
        if (index >= 0)
            return write_buffer(e, index);
    }
    return core_encode_data(e, data, size);
}

static int encode_bytearray(core_encoder *e, PyObject *value) {
    Py_buffer view; /* keeps its size while the GIL may be released */
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0)
        return -1;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_BYTEARRAY);
    int r = core_encode_data(e, view.buf, (size_t)view.len);
    piso_write_ext_end(e->w, mark);
    PyBuffer_Release(&view);
    return r;
}

/* ---- containers ---- */

static int encode_tuple(core_encoder *e, PyObject *value, const core_path *path) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_TUPLE);
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    piso_write_array(e->w, (size_t)size);
    core_path at = {.parent = path, .kind = CORE_AT_INDEX};
    for (at.index = 0; at.index < size; at.index++)
        if (core_encode(e, PyTuple_GET_ITEM(value, at.index), &at) < 0)
            return -1;
    piso_write_ext_end(e->w, mark);
    return 0;
}

static int encode_list(core_encoder *e, PyObject *value, const core_path *path) {
    Py_ssize_t size = PyList_GET_SIZE(value);
    piso_write_array(e->w, (size_t)size);
    core_path at = {.parent = path, .kind = CORE_AT_INDEX};
    for (at.index = 0; at.index < size; at.index++) {
        if (PyList_GET_SIZE(value) != size)
            return changed_size(path);
        PyObject *item = Py_NewRef(PyList_GET_ITEM(value, at.index));
        int r = core_encode(e, item, &at);
        Py_DECREF(item);
        if (r < 0)
            return -1;
    }
    return PyList_GET_SIZE(value) == size ? 0 : changed_size(path);
}

static int encode_dict(core_encoder *e, PyObject *value, const core_path *path) {
    Py_ssize_t size = PyDict_GET_SIZE(value), position = 0, written = 0;
    PyObject *key, *item;
    piso_write_map(e->w, (size_t)size);
    while (PyDict_Next(value, &position, &key, &item)) {
        core_path at = {.parent = path, .kind = CORE_AT_KEY, .key = key};
        Py_INCREF(key);
        Py_INCREF(item);
        int r = core_encode(e, key, &at) < 0 || core_encode(e, item, &at) < 0;
        Py_DECREF(key);
        Py_DECREF(item);
        if (r)
            return -1;
        if (++written > size || PyDict_GET_SIZE(value) != size)
            return changed_size(path);
    }
    return written == size ? 0 : changed_size(path);
}

static int encode_set(core_encoder *e, PyObject *value, int8_t type, const core_path *path) {
    PyObject *items = PySequence_List(value);
    if (!items)
        return -1;
    size_t mark = piso_write_ext_begin(e->w, type);
    piso_write_array(e->w, (size_t)PyList_GET_SIZE(items));
    core_path at = {.parent = path, .kind = CORE_IN_SET};
    int r = 0;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(items); i++)
        r = core_encode(e, PyList_GET_ITEM(items, i), &at);
    piso_write_ext_end(e->w, mark);
    Py_DECREF(items);
    return r;
}

/* ---- everything else ---- */

static const char unawaited[] = "it has not been awaited: write 'await', or call it with '.sync'";

/* encode_stored: encodes a value of a subclass by the storage of its base, without calling the subclass's methods. */
static int encode_stored(core_encoder *e, PyTypeObject *base, PyObject *value, const core_path *path) {
    if (base == &PyUnicode_Type)
        return encode_str(e, value);
    if (base == &PyFloat_Type)
        return piso_write_double(e->w, PyFloat_AS_DOUBLE(value)), 0;
    if (base == &PyBytes_Type)
        return core_encode_data(e, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
    if (base == &PyTuple_Type)
        return encode_tuple(e, value, path);
    if (base == &PyList_Type)
        return encode_list(e, value, path);
    if (base == &PyDict_Type)
        return encode_dict(e, value, path);
    if (base == &PySet_Type)
        return encode_set(e, value, PISO_EXT_SET, path);
    PyObject *number = PyLong_Type.tp_as_number->nb_positive(value); /* an exact int */
    int r = number ? encode_int(e, number) : -1;
    Py_XDECREF(number);
    return r;
}

/* encode_foreign: encodes a value of an unknown class by its base, or raises. */
static int encode_foreign(core_encoder *e, PyObject *value, const core_path *path) {
    int kind = core_class_kind_of((PyObject *)Py_TYPE(value));
    if (kind < 0)
        return -1;
    PyTypeObject *base = core_sent_base(e, value, (core_class_kind)kind);
    if (base)
        return encode_stored(e, base, value, path);
    if (PyCoro_CheckExact(value) || Py_TYPE(value) == e->codec->state->call_type)
        return core_encode_error(path, value, unawaited);
    const char *hint = core_hint(value);
    return core_encode_error(path, value, hint ? hint : core_remedy(value, (core_class_kind)kind));
}

/* encode_fallback: encodes a value whose class is in no table. Returns 1, 0 or -1. */
static int encode_fallback(core_encoder *e, PyObject *value, int references, const core_path *path) {
    int r = 0;
    for (const core_fallback *g = e->codec->state->tables->fallbacks; r == 0 && g->encode; g++) {
        e->references = g->direct ? references : 0;
        r = g->encode(e, value, path);
    }
    e->references = 0;
    return r;
}

static int encode_other(core_encoder *e, PyObject *value, int references, const core_path *path) {
    core_state *state = e->codec->state;
    if (core_tables_load(state) < 0)
        return -1;
    if (core_registry_custom(e->codec->registry, Py_TYPE(value)))
        return state->tables->instance(e, value, Py_TYPE(value), path);
    const core_encoder_entry *entry = core_encoder_of(state, Py_TYPE(value));
    if (entry) {
        e->references = entry->direct ? references : 0;
        return entry->encode(e, entry->kind, value, path);
    }
    int r = encode_fallback(e, value, references, path);
    return r < 0 ? -1 : r > 0 ? 0 : encode_foreign(e, value, path);
}

static int encode_container(core_encoder *e, PyObject *value, const core_path *path) {
    PyTypeObject *type = Py_TYPE(value);
    if (e->depth >= PISO_MAX_DEPTH)
        return too_deep(path);
    e->depth++;
    int r, references = e->references, last = references && core_is_last(value, references);
    e->references = 0;
    if (type == &PyTuple_Type) {
        e->references = last;
        r = encode_tuple(e, value, path);
    } else if (type == &PyList_Type) {
        e->references = 2 * last; /* the list's and the loop's */
        r = encode_list(e, value, path);
    } else if (type == &PyDict_Type) {
        e->references = 2 * last;
        r = encode_dict(e, value, path);
    } else if (type == &PySet_Type) {
        r = encode_set(e, value, PISO_EXT_SET, path);
    } else if (type == &PyFrozenSet_Type) {
        r = encode_set(e, value, PISO_EXT_FROZENSET, path);
    } else {
        r = encode_other(e, value, last ? references : 0, path);
    }
    e->depth--;
    e->references = references;
    return r;
}

int core_encode(core_encoder *e, PyObject *value, const core_path *path) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyLong_Type)
        return encode_int(e, value);
    if (type == &PyUnicode_Type)
        return encode_str(e, value);
    if (value == Py_None)
        return piso_write_nil(e->w), 0;
    if (type == &PyFloat_Type)
        return piso_write_double(e->w, PyFloat_AS_DOUBLE(value)), 0;
    if (type == &PyBool_Type)
        return piso_write_bool(e->w, value == Py_True), 0;
    if (type == &PyBytes_Type)
        return core_encode_data(e, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
    if (type == &PyByteArray_Type)
        return encode_bytearray(e, value);
    if (type == &PyComplex_Type)
        return encode_complex(e, value);
    if (type == &PyMemoryView_Type)
        return e->codec->state->tables->memoryview(e, value, path);
    return encode_container(e, value, path);
}

/* ---- messages ---- */

/* encode_keywords: writes the map of keyword arguments, whose values follow the positional ones. */
static int encode_keywords(core_encoder *e, PyObject *const *values, PyObject *names) {
    piso_write_map(e->w, (size_t)PyTuple_GET_SIZE(names));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        core_path at = {.kind = CORE_AT_ARGUMENT, .key = name};
        if (core_encode(e, name, &at) < 0 || core_encode(e, values[i], &at) < 0)
            return -1;
    }
    return 0;
}

int core_encode_call(core_codec *c, piso_writer *w, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                     PyObject **ret_remotes) {
    core_encoder e = {.codec = c, .w = w, .remotes = ret_remotes};
    bool keywords = kwnames && PyTuple_GET_SIZE(kwnames) > 0;
    piso_write_array(w, (size_t)nargs);
    core_path at = {.kind = CORE_AT_ARGUMENT};
    for (at.index = 0; at.index < nargs; at.index++)
        if (core_encode(&e, args[at.index], &at) < 0)
            return -1;
    if (keywords && encode_keywords(&e, args + nargs, kwnames) < 0)
        return -1;
    if (w->error)
        return writer_error(&e);
    return keywords ? PISO_CALL_KWARGS : 0;
}

int core_encode_value(core_codec *c, piso_writer *w, PyObject *value, const char *where) {
    core_encoder e = {.codec = c, .w = w};
    core_path at = {.kind = CORE_AT_ROOT, .root = where};
    e.references = 1;
    if (core_encode(&e, value, &at) < 0)
        return -1;
    return w->error ? writer_error(&e) : 0;
}

void core_codec_abandon(core_codec *c, piso_writer *w) {
    if (w->nspans && c->session)
        piso_session_discard_spans(c->session, w);
    piso_writer_reset(w);
}
