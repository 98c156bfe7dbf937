/* dtypes.c - encodes and decodes descriptions of dtypes, which do not depend on NumPy's version (arrays.c). */
#include "codec/decode.h"
#include "numpy.h"

#include <string.h>

#define CACHE_LIMIT 256

/* remember: adds to a bounded cache, which is cleared when it is full: an application may create any number of
 * dtypes. */
static void remember(PyObject *cache, PyObject *key, PyObject *value) {
    if (PyDict_GET_SIZE(cache) >= CACHE_LIMIT)
        PyDict_Clear(cache);
    if (PyDict_SetItem(cache, key, value) < 0)
        PyErr_Clear(); /* out of memory: it is computed again without the cache */
}

/* ---- encoding ---- */

static int describe(piso_writer *w, PyObject *dtype);

static int write_text(piso_writer *w, PyObject *text) {
    Py_ssize_t size;
    const char *utf8 = text && PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (utf8)
        piso_write_str(w, utf8, (size_t)size);
    else if (text && !PyErr_Occurred())
        piso_write_nil(w); /* no title */
    return PyErr_Occurred() ? -1 : 0;
}

static int write_int(piso_writer *w, PyObject *number) {
    long long value = number ? PyLong_AsLongLong(number) : -1;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        return -1;
    piso_write_int(w, value);
    return 0;
}

/* write_field: writes [name, description, offset, title or nil]. */
static int write_field(piso_writer *w, PyObject *fields, PyObject *name) {
    PyObject *field = PyObject_GetItem(fields, name);
    if (!field || !PyTuple_Check(field) || PyTuple_GET_SIZE(field) < 2) {
        Py_XDECREF(field);
        return -1;
    }
    PyObject *title = PyTuple_GET_SIZE(field) > 2 ? PyTuple_GET_ITEM(field, 2) : Py_None;
    piso_write_array(w, 4);
    int r = write_text(w, name) < 0 || describe(w, PyTuple_GET_ITEM(field, 0)) < 0 ||
            write_int(w, Py_NewRef(PyTuple_GET_ITEM(field, 1))) < 0 || write_text(w, title) < 0;
    Py_DECREF(field);
    return r ? -1 : 0;
}

static int describe_structure(piso_writer *w, PyObject *dtype, PyObject *names) {
    PyObject *fields = PyObject_GetAttrString(dtype, "fields");
    PyObject *aligned = fields ? PyObject_GetAttrString(dtype, "isalignedstruct") : NULL;
    int r = aligned ? 0 : -1;
    piso_write_array(w, 4);
    piso_write_str(w, "V", 1);
    if (r == 0)
        r = write_int(w, PyObject_GetAttrString(dtype, "itemsize"));
    piso_write_bool(w, aligned == Py_True);
    piso_write_array(w, (size_t)PyTuple_GET_SIZE(names));
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(names); i++)
        r = write_field(w, fields, PyTuple_GET_ITEM(names, i));
    Py_XDECREF(fields);
    Py_XDECREF(aligned);
    return r;
}

static int describe_subarray(piso_writer *w, PyObject *subdtype) {
    PyObject *base, *shape;
    if (!PyArg_ParseTuple(subdtype, "OO!", &base, &PyTuple_Type, &shape))
        return -1;
    piso_write_array(w, 3);
    piso_write_str(w, "A", 1);
    int r = describe(w, base);
    piso_write_array(w, (size_t)PyTuple_GET_SIZE(shape));
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(shape); i++)
        r = write_int(w, Py_NewRef(PyTuple_GET_ITEM(shape, i)));
    return r;
}

static int describe(piso_writer *w, PyObject *dtype) {
    if (Py_EnterRecursiveCall(" while describing a dtype"))
        return -1;
    PyObject *names = PyObject_GetAttrString(dtype, "names");
    PyObject *subdtype = names ? PyObject_GetAttrString(dtype, "subdtype") : NULL;
    int r = -1;
    if (subdtype && subdtype != Py_None) {
        r = describe_subarray(w, subdtype);
    } else if (subdtype && names != Py_None) {
        r = describe_structure(w, dtype, names);
    } else if (subdtype) {
        PyObject *text = PyObject_GetAttrString(dtype, "str");
        r = write_text(w, text);
        Py_XDECREF(text);
    }
    Py_XDECREF(names);
    Py_XDECREF(subdtype);
    Py_LeaveRecursiveCall();
    return r;
}

/* is_plain: returns 1; 0 when the dtype holds objects, was registered by another package (it would arrive as raw
 * bytes), or has items of their own class (numpy.record); -1. */
static int is_plain(core_state *state, PyObject *dtype) {
    PyObject *objects = PyObject_GetAttrString(dtype, "hasobject");
    PyObject *builtin = objects ? PyObject_GetAttrString(dtype, "isbuiltin") : NULL;
    PyObject *kind = builtin ? PyObject_GetAttrString(dtype, "kind") : NULL;
    PyObject *type = kind ? PyObject_GetAttrString(dtype, "type") : NULL;
    PyObject *plain_void = type ? PyObject_GetAttrString(state->numpy->numpy, "void") : NULL;
    int r = -1;
    if (plain_void)
        r = objects != Py_True && PyLong_AsLong(builtin) != 2 &&
            (PyUnicode_CompareWithASCIIString(kind, "V") != 0 || type == plain_void);
    Py_XDECREF(objects);
    Py_XDECREF(builtin);
    Py_XDECREF(kind);
    Py_XDECREF(type);
    Py_XDECREF(plain_void);
    return PyErr_Occurred() ? -1 : r;
}

/* can_describe: returns whether it and all its parts are plain: 1, 0, -1. */
static int can_describe(core_state *state, PyObject *dtype) {
    PyObject *base = PyObject_GetAttrString(dtype, "base");
    PyObject *fields = base ? PyObject_GetAttrString(base, "fields") : NULL;
    PyObject *parts = fields && fields != Py_None ? PyMapping_Values(fields) : NULL;
    int r = fields ? is_plain(state, base) : -1;
    if (fields && fields != Py_None && !parts)
        r = -1;
    if (r > 0 && Py_EnterRecursiveCall(" while describing a dtype"))
        r = -1;
    else if (r > 0) {
        for (Py_ssize_t i = 0; r > 0 && parts && i < PyList_GET_SIZE(parts); i++)
            r = can_describe(state, PyTuple_GET_ITEM(PyList_GET_ITEM(parts, i), 0));
        Py_LeaveRecursiveCall();
    }
    Py_XDECREF(base);
    Py_XDECREF(fields);
    Py_XDECREF(parts);
    return r;
}

PyObject *core_dtype_spec(core_state *state, PyObject *dtype) {
    PyObject *names = PyObject_GetAttrString(dtype, "names");
    if (!names)
        return NULL;
    /* Structures that compare equal may differ in alignment and in the class of their items: not cached. */
    PyObject *cache = names == Py_None ? state->numpy->dtype_specs : NULL;
    Py_DECREF(names);
    PyObject *spec = cache ? PyDict_GetItemWithError(cache, dtype) : NULL;
    if (spec || PyErr_Occurred())
        return Py_XNewRef(spec);
    if (can_describe(state, dtype) <= 0)
        return NULL;
    piso_writer w;
    piso_writer_init(&w);
    if (describe(&w, dtype) == 0 && w.error == 0)
        spec = PyBytes_FromStringAndSize((const char *)w.data, (Py_ssize_t)w.size);
    else if (!PyErr_Occurred())
        PyErr_NoMemory();
    piso_writer_fini(&w);
    if (spec && cache)
        remember(cache, dtype, spec);
    return spec;
}

/* ---- decoding ---- */

/* one_of: unlike strchr, does not find the NUL that ends the set. */
static bool one_of(char c, const char *set) {
    return c && strchr(set, c);
}

/* is_simple: accepts byte order, kind, size, unit: "<f8", "|S3", ">M8[25us]"; no objects. */
static bool is_simple(const char *text, Py_ssize_t size) {
    if (size < 3 || size > 32 || !one_of(text[0], "<>|=") || !one_of(text[1], "?biufcmMSUV"))
        return false;
    Py_ssize_t i = 2;
    while (i < size && text[i] >= '0' && text[i] <= '9')
        i++;
    if (i == 2 || i == size)
        return i > 2;
    if (text[i] != '[' || text[size - 1] != ']' || !one_of(text[1], "mM"))
        return false;
    for (i++; i < size - 1; i++)
        if (!one_of(text[i], "0123456789abcdefghijklmnopqrstuvwxyzYMWD"))
            return false;
    return true;
}

static PyObject *build(core_decoder *d, PyObject *description);

static PyObject *build_simple(core_decoder *d, PyObject *text) {
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    if (!utf8)
        return NULL;
    return is_simple(utf8, size) ? PyObject_CallOneArg(d->codec->state->numpy->dtype, text)
                                 : core_malformed(d, "an unknown dtype");
}

/* build_subarray: calls dtype((base, shape)). */
static PyObject *build_subarray(core_decoder *d, PyObject *description) {
    if (!PyList_CheckExact(PyList_GET_ITEM(description, 2)))
        return core_malformed(d, "a dtype without a shape");
    PyObject *base = build(d, PyList_GET_ITEM(description, 1));
    PyObject *shape = base ? PyList_AsTuple(PyList_GET_ITEM(description, 2)) : NULL;
    PyObject *argument = shape ? PyTuple_Pack(2, base, shape) : NULL;
    PyObject *dtype = argument ? PyObject_CallOneArg(d->codec->state->numpy->dtype, argument) : NULL;
    Py_XDECREF(base);
    Py_XDECREF(shape);
    Py_XDECREF(argument);
    return dtype;
}

/* is_field: checks the types. Names become keys, whose hashes must be secret (collisions.h). */
static bool is_field(PyObject *field) {
    PyObject *title = PyList_GET_ITEM(field, 3);
    return PyUnicode_CheckExact(PyList_GET_ITEM(field, 0)) && PyLong_CheckExact(PyList_GET_ITEM(field, 2)) &&
           (title == Py_None || PyUnicode_CheckExact(title));
}

/* add_field: appends one field's parts to the four lists that NumPy takes. */
static int add_field(core_decoder *d, PyObject *field, PyObject *lists[4]) {
    if (!PyList_CheckExact(field) || PyList_GET_SIZE(field) != 4 || !is_field(field)) {
        core_malformed(d, "a field of a dtype is not complete");
        return -1;
    }
    if (!core_charge(d, CORE_COST_DTYPE_FIELD))
        return -1;
    PyObject *format = build(d, PyList_GET_ITEM(field, 1));
    int r = !format || PyList_Append(lists[0], PyList_GET_ITEM(field, 0)) < 0 || PyList_Append(lists[1], format) < 0 ||
            PyList_Append(lists[2], PyList_GET_ITEM(field, 2)) < 0 ||
            PyList_Append(lists[3], PyList_GET_ITEM(field, 3)) < 0;
    Py_XDECREF(format);
    return r ? -1 : 0;
}

static PyObject *build_structure(core_decoder *d, PyObject *description) {
    PyObject *fields = PyList_GET_ITEM(description, 3), *lists[4], *dtype = NULL;
    if (!PyList_CheckExact(fields) || !PyBool_Check(PyList_GET_ITEM(description, 2)) ||
        !PyLong_CheckExact(PyList_GET_ITEM(description, 1)))
        return core_malformed(d, "a dtype without fields");
    int r = 0;
    for (int i = 0; i < 4; i++)
        r |= !(lists[i] = PyList_New(0));
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(fields); i++)
        r = add_field(d, PyList_GET_ITEM(fields, i), lists);
    PyObject *layout = r == 0
                           ? Py_BuildValue("{s:O,s:O,s:O,s:O,s:O}", "names", lists[0], "formats", lists[1], "offsets",
                                           lists[2], "titles", lists[3], "itemsize", PyList_GET_ITEM(description, 1))
                           : NULL;
    if (layout)
        dtype =
            PyObject_CallFunctionObjArgs(d->codec->state->numpy->dtype, layout, PyList_GET_ITEM(description, 2), NULL);
    Py_XDECREF(layout);
    for (int i = 0; i < 4; i++)
        Py_XDECREF(lists[i]);
    return dtype;
}

static PyObject *build(core_decoder *d, PyObject *description) {
    if (PyUnicode_CheckExact(description))
        return build_simple(d, description);
    Py_ssize_t size = PyList_CheckExact(description) ? PyList_GET_SIZE(description) : 0;
    PyObject *tag = size ? PyList_GET_ITEM(description, 0) : NULL;
    if (!tag || !PyUnicode_CheckExact(tag) || Py_EnterRecursiveCall(" while reading a dtype"))
        return core_malformed(d, "a dtype of an unknown kind");
    PyObject *dtype = NULL;
    if (size == 3 && PyUnicode_CompareWithASCIIString(tag, "A") == 0)
        dtype = build_subarray(d, description);
    else if (size == 4 && PyUnicode_CompareWithASCIIString(tag, "V") == 0)
        dtype = build_structure(d, description);
    else
        core_malformed(d, "a dtype of an unknown kind");
    Py_LeaveRecursiveCall();
    return dtype;
}

PyObject *core_dtype_from_spec(core_decoder *d, piso_reader *r) {
    PyObject *description = core_decode(d, r);
    PyObject *cache = d->codec->state->numpy->spec_dtypes, *dtype = NULL;
    if (description && !PyUnicode_CheckExact(description)) {
        dtype = build(d, description); /* never cached: the names of its fields can be changed */
    } else if (description && !(dtype = Py_XNewRef(PyDict_GetItemWithError(cache, description))) && !PyErr_Occurred()) {
        dtype = build(d, description);
        if (dtype)
            remember(cache, description, dtype);
    }
    Py_XDECREF(description);
    return dtype;
}
