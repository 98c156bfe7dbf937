/* records.c - instances of registered classes: dataclasses and named tuples; members of enums (enums.c). */
#include <string.h>

#include "codec/decode.h"
#include "codec/registry.h"
#include "std.h"

/* ---- encoding ---- */

/* encode_fields: writes a map from name to value. */
static int encode_fields(core_encoder *e, PyObject *value, PyObject *names, const core_path *path) {
    int r = 0;
    piso_write_map(e->w, (size_t)PyTuple_GET_SIZE(names));
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(names); i++) {
        core_path at = {.parent = path, .kind = CORE_AT_FIELD, .key = PyTuple_GET_ITEM(names, i)};
        PyObject *field = PyObject_GetAttr(value, at.key);
        r = field && core_encode(e, at.key, &at) == 0 ? core_encode(e, field, &at) : -1;
        Py_XDECREF(field);
    }
    return r;
}

/* encode_items: writes a map from name to item. */
static int encode_items(core_encoder *e, PyObject *value, PyObject *names, const core_path *path) {
    int r = 0;
    if (PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(value))
        return core_encode_error(path, value, "it does not have as many items as its class has fields");
    piso_write_map(e->w, (size_t)PyTuple_GET_SIZE(value));
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(names); i++) {
        core_path at = {.parent = path, .kind = CORE_AT_FIELD, .key = PyTuple_GET_ITEM(names, i)};
        r = core_encode(e, at.key, &at) < 0 ? -1 : core_encode(e, PyTuple_GET_ITEM(value, i), &at);
    }
    return r;
}

/* encode_registered: encodes an object as an instance of `cls`, its class or a base. Returns 1, 0 for an exception, or
 * -1. */
static int encode_registered(core_encoder *e, PyObject *value, PyTypeObject *cls, const core_path *path) {
    core_class_kind kind;
    PyObject *fields, *name = core_registry_name(e->codec->registry, cls);
    if (!name || core_registry_shape(e->codec->registry, (PyObject *)cls, &kind, &fields) < 0)
        return -1;
    if (kind == CORE_CUSTOM || kind == CORE_BY_REFERENCE)
        return e->codec->state->tables->instance(e, value, cls, path) < 0 ? -1 : 1;
    if (kind == CORE_EXCEPTION_CLASS)
        return 0;
    Py_INCREF(fields); /* a property of the value may run code that registers a class */
    size_t mark = piso_write_ext_begin(e->w, kind == CORE_ENUM ? PISO_EXT_ENUM : PISO_EXT_RECORD);
    piso_write_array(e->w, 2);
    int r = core_encode(e, name, path);
    if (r == 0)
        r = kind == CORE_ENUM          ? core_encode_member(e, value, path)
            : kind == CORE_NAMED_TUPLE ? encode_items(e, value, fields, path)
                                       : encode_fields(e, value, fields, path);
    piso_write_ext_end(e->w, mark);
    Py_DECREF(fields);
    return r < 0 ? -1 : 1;
}

static int encode(core_encoder *e, PyObject *value, const core_path *path) {
    PyTypeObject *cls = Py_TYPE(value);
    if (!core_registry_name(e->codec->registry, cls))
        cls = core_registry_base(e->codec->registry, cls);
    return cls ? encode_registered(e, value, cls, path) : 0;
}

/* ---- decoding ---- */

/* find_field: returns the index of a field, which most likely is the next one; -1: there is none. */
static Py_ssize_t find_field(PyObject *fields, Py_ssize_t next, const piso_item *name) {
    Py_ssize_t count = PyTuple_GET_SIZE(fields), size;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t at = (next + i) % count;
        const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(fields, at), &size);
        if (text && name->kind == PISO_STR && (size_t)size == name->as.bytes.size &&
            memcmp(text, name->as.bytes.data, (size_t)size) == 0)
            return at;
    }
    PyErr_Clear(); /* a name that is not text, which cannot be sent */
    return -1;
}

/* decode_fields: decodes a map of exactly these fields, and returns the values as a tuple in their order. */
static PyObject *decode_fields(core_decoder *d, piso_reader *r, PyObject *cls, PyObject *fields) {
    piso_item map, name;
    if (core_read(d, r, PISO_MAP, &map) < 0)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    bool good = map.as.count == (size_t)count;
    PyObject *values = good && core_charge(d, (uint64_t)count * CORE_COST_FIELD) ? PyTuple_New(count) : NULL;
    uint64_t weight = 64;
    for (Py_ssize_t i = 0; values && i < count; i++) {
        Py_ssize_t at = piso_read(r, &name) == 1 ? find_field(fields, i, &name) : -1;
        good = at >= 0 && !PyTuple_GET_ITEM(values, at);
        PyObject *value = good ? core_decode_next(d, r) : NULL;
        weight += d->weight;
        if (value)
            PyTuple_SET_ITEM(values, at, value);
        else
            Py_CLEAR(values);
    }
    if (!good)
        core_cannot_decode(
            d, PyExc_TypeError,
            "the peer sent an instance of %R whose fields differ from those here; both processes need the same class",
            cls);
    d->weight = core_weight(weight);
    return values;
}

/* make_dataclass: creates an instance without calling __init__; sets the fields without calling a frozen
 * __setattr__. */
static PyObject *make_dataclass(PyObject *cls, PyObject *fields, PyObject *values) {
    PyObject *empty = PyTuple_New(0);
    PyObject *record = empty ? ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, empty, NULL) : NULL;
    for (Py_ssize_t i = 0; record && i < PyTuple_GET_SIZE(fields); i++)
        if (PyObject_GenericSetAttr(record, PyTuple_GET_ITEM(fields, i), PyTuple_GET_ITEM(values, i)) < 0)
            Py_CLEAR(record);
    Py_XDECREF(empty);
    return record;
}

/* make_named_tuple: creates an instance without calling the class's __new__. */
static PyObject *make_named_tuple(PyObject *cls, PyObject *values) {
    PyObject *args = PyTuple_Pack(1, values);
    PyObject *record = args ? PyTuple_Type.tp_new((PyTypeObject *)cls, args, NULL) : NULL;
    Py_XDECREF(args);
    return record;
}

static PyObject *decode_record(core_decoder *d, piso_reader *r, PyObject *cls, core_class_kind kind, PyObject *fields) {
    PyObject *values = decode_fields(d, r, cls, fields), *record = NULL;
    if (values)
        record = kind == CORE_DATACLASS ? make_dataclass(cls, fields, values) : make_named_tuple(cls, values);
    Py_XDECREF(values);
    return record;
}

static PyObject *decode_enum(core_decoder *d, piso_reader *r, PyObject *cls) {
    PyObject *key = core_decode(d, r), *member = key ? core_decode_member(d, cls, key) : NULL;
    d->weight = 32;
    Py_XDECREF(key);
    return member;
}

static PyObject *find_class(core_decoder *d, PyObject *name) {
    if (!PyUnicode_CheckExact(name))
        return core_malformed(d, "a class name that is not text");
    PyObject *cls = core_registry_class(d->codec->registry, name);
    if (!cls)
        core_cannot_decode(d, PyExc_TypeError,
                           "the peer sent an instance of %.200R, which is not registered here; "
                           "register it with pyisolate.register_type on the host",
                           name);
    return Py_XNewRef(cls);
}

/* decode_instance: decodes an instance of a class, whose code may run and raise. */
static PyObject *decode_instance(core_decoder *d, const piso_item *ext, piso_reader *r, PyObject *cls) {
    core_class_kind kind;
    PyObject *fields, *value;
    if (core_registry_shape(d->codec->registry, cls, &kind, &fields) < 0)
        return NULL;
    bool is_record = kind == CORE_DATACLASS || kind == CORE_NAMED_TUPLE;
    if (ext->ext_type == PISO_EXT_ENUM ? kind != CORE_ENUM : !is_record)
        return core_cannot_decode(
            d, PyExc_TypeError, "the peer sent an instance of %R, which is another kind of class in this process", cls);
    Py_INCREF(fields);
    value = is_record ? decode_record(d, r, cls, kind, fields) : decode_enum(d, r, cls);
    Py_DECREF(fields);
    if (!value && !d->malformed)
        d->failed = true;
    return value;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    if (core_read_array(d, ext, 2, &r) < 0)
        return NULL;
    PyObject *name = core_decode(d, &r), *cls = name ? find_class(d, name) : NULL, *value = NULL;
    if (cls)
        value = decode_instance(d, ext, &r, cls);
    Py_XDECREF(name);
    Py_XDECREF(cls);
    return core_check_payload_end(d, &r, value);
}

void core_records_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode});
    core_decoder_entry entry = {.decode = decode, .holds = true, .special = true, .registered = true};
    entry.cost = 200;
    core_add_decoder(state, PISO_EXT_ENUM, entry);
    entry.cost = 250;
    core_add_decoder(state, PISO_EXT_RECORD, entry);
}
