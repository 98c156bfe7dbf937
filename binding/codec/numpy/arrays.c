/* arrays.c - NumPy arrays and scalars, without NumPy's headers, so that the two processes may use different versions.
 *
 * The capsule of an array's __array_struct__ (the array interface, version 3) describes its memory. A dtype is sent as
 * a description that does not depend on the version: NumPy's own string for simple ones, otherwise ["V", itemsize,
 * aligned, [[name, description, offset, title or nil]...]] for structures and ["A", description, shape] for sub-arrays.
 * Descriptions are cached in both directions. */
#include <string.h>

#include "codec/decode.h"
#include "codec/remedies.h"
#include "numpy.h"

enum { FORTRAN = 1, READONLY = 2 }; /* flags on the wire */

#define MAX_EMPTY_ITEMS 65536

/* The structure that the capsule points to. */
typedef struct array_interface {
    int two, nd;
    char typekind;
    int itemsize, flags;
    Py_intptr_t *shape, *strides;
    void *data;
    PyObject *descr;
} array_interface;

/* ---- encoding arrays ---- */

/* is_contiguous: tests for C or Fortran order, by the strides, because the flags in the capsule are empty for
 * structured dtypes (NumPy clears them where it means to add one). */
static bool is_contiguous(const array_interface *a, bool fortran) {
    Py_intptr_t step = a->itemsize;
    bool contiguous = true;
    for (int i = 0; i < a->nd; i++) {
        int axis = fortran ? i : a->nd - 1 - i;
        if (a->shape[axis] == 0)
            return true;
        contiguous = contiguous && (a->shape[axis] == 1 || a->strides[axis] == step);
        step *= a->shape[axis];
    }
    return contiguous;
}

/* is_readonly: returns 1, 0 or -1. Asks the array, for the same reason. */
static int is_readonly(PyObject *array) {
    PyObject *flags = PyObject_GetAttrString(array, "flags");
    PyObject *writeable = flags ? PyObject_GetAttrString(flags, "writeable") : NULL;
    int r = writeable ? writeable != Py_True : -1;
    Py_XDECREF(flags);
    Py_XDECREF(writeable);
    return r;
}

/* owner_of: returns the object that owns the array's memory, borrowed, if only this message will use the memory: the
 * array has no other reference, nor has any array between it and the owner, nor the owner. Else NULL, never an
 * error. */
static PyObject *owner_of(core_encoder *e, PyObject *array) {
    if (!e->references || !core_is_last(array, e->references))
        return NULL;
    PyObject *owner = PyObject_GetAttrString(array, "base");
    while (owner && (PyObject *)Py_TYPE(owner) == e->codec->state->numpy->ndarray && core_is_last(owner, 2))
        Py_SETREF(owner, PyObject_GetAttrString(owner, "base"));
    PyErr_Clear(); /* an array without a base has no owner */
    bool last = owner && core_is_last(owner, 2);
    Py_XDECREF(owner);
    return last ? owner : NULL;
}

/* write_array: writes [dtype, shape, flags, data] of contiguous memory in `owner`. */
static int write_array(core_encoder *e, PyObject *spec, PyObject *owner, const array_interface *a, int flags) {
    size_t size = (size_t)a->itemsize;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_ARRAY);
    piso_write_array(e->w, 4);
    piso_write_raw(e->w, PyBytes_AS_STRING(spec), (size_t)PyBytes_GET_SIZE(spec));
    piso_write_array(e->w, (size_t)a->nd);
    for (int i = 0; i < a->nd; i++) {
        piso_write_int(e->w, a->shape[i]);
        size *= (size_t)a->shape[i];
    }
    piso_write_int(e->w, flags);
    int r = core_encode_owned(e, owner, a->data, size);
    piso_write_ext_end(e->w, mark);
    return r;
}

/* encode_array: `flags` are those of the original array, of which this one may be a copy. */
static int encode_array(core_encoder *e, PyObject *array, PyObject *spec, int flags) {
    PyObject *owner = owner_of(e, array); /* before the capsule refers to the array too */
    PyObject *capsule = PyObject_GetAttrString(array, "__array_struct__");
    const array_interface *a = capsule ? PyCapsule_GetPointer(capsule, NULL) : NULL;
    int r = -1;
    if (a && is_contiguous(a, false)) {
        r = write_array(e, spec, owner, a, flags);
    } else if (a && is_contiguous(a, true)) {
        r = write_array(e, spec, owner, a, flags | FORTRAN);
    } else if (a) { /* strides of any other kind: a C-ordered copy */
        PyObject *copy = PyObject_CallMethod(array, "copy", "s", "C");
        r = copy ? encode_array(e, copy, spec, flags) : -1;
        Py_XDECREF(copy);
    }
    Py_XDECREF(capsule);
    return r;
}

static int encode_scalar(core_encoder *e, PyObject *value, PyObject *spec) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_SCALAR);
    piso_write_array(e->w, 2);
    piso_write_raw(e->w, PyBytes_AS_STRING(spec), (size_t)PyBytes_GET_SIZE(spec));
    int r = -1;
    if (PyUnicode_Check(value)) { /* numpy.str_: as text, which keeps trailing NULs */
        core_path at = {.kind = CORE_AT_ROOT, .root = "a numpy.str_"};
        PyObject *plain = PyUnicode_FromObject(value); /* an exact str; str(value) would strip trailing NULs */
        r = plain ? core_encode(e, plain, &at) : -1;
        Py_XDECREF(plain);
    } else if (PyBytes_Check(value)) {
        piso_write_bin(e->w, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
        r = 0;
    } else {
        PyObject *bytes = PyObject_CallMethod(value, "tobytes", NULL);
        if (bytes && PyBytes_Check(bytes)) {
            piso_write_bin(e->w, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
            r = 0;
        }
        Py_XDECREF(bytes);
    }
    piso_write_ext_end(e->w, mark);
    return r;
}

/* refuse: raises for a dtype that holds objects, was registered by another package, or has items of the class
 * numpy.record. */
static void refuse(core_state *state, PyObject *dtype, PyObject *value, const core_path *path) {
    PyObject *type = PyObject_GetAttrString(dtype, "type");
    PyObject *record = type ? PyObject_GetAttrString(state->numpy->numpy, "record") : NULL;
    bool is_record = record && type == record;
    Py_XDECREF(type);
    Py_XDECREF(record);
    if (PyErr_Occurred())
        return;
    const char *hint = core_hint(value);
    if (value == dtype)
        core_encode_error(path, value,
                          is_record ? "its items are of the class numpy.record; send numpy.dtype((numpy.void, value))"
                                    : "it holds Python objects or is not one of NumPy's own; send str(value)");
    else if (is_record && (PyObject *)Py_TYPE(value) == state->numpy->ndarray)
        core_encode_error(path, value,
                          "its items are of the class numpy.record; "
                          "send array.view(numpy.dtype((numpy.void, array.dtype)))");
    else
        core_encode_error(path, value,
                          is_record && hint ? hint
                                            : "its dtype holds Python objects or is not one of NumPy's own; "
                                              "send value.tolist()");
}

/* spec_of: returns the description of a dtype, which is the value's or the value; NULL with an exception. */
static PyObject *spec_of(core_encoder *e, PyObject *dtype, PyObject *value, const core_path *path) {
    PyObject *spec = core_dtype_spec(e->codec->state, dtype);
    if (!spec && !PyErr_Occurred())
        refuse(e->codec->state, dtype, value, path);
    return spec;
}

/* is_of: returns whether a value is of a class of NumPy's, whatever its __class__ is; a replacement for NumPy may have
 * no classes. */
static bool is_of(PyObject *value, PyObject *cls) {
    return PyType_Check(cls) && PyObject_TypeCheck(value, (PyTypeObject *)cls);
}

/* encode_dtype: returns 1, 0 when the value is not a dtype, -1. */
static int encode_dtype(core_encoder *e, PyObject *value, const core_path *path) {
    int r = is_of(value, e->codec->state->numpy->dtype);
    PyObject *spec = r > 0 ? spec_of(e, value, value, path) : NULL;
    if (spec)
        piso_write_ext(e->w, PISO_EXT_DTYPE, PyBytes_AS_STRING(spec), (size_t)PyBytes_GET_SIZE(spec));
    else if (r > 0)
        r = -1;
    Py_XDECREF(spec);
    return r;
}

static int encode(core_encoder *e, PyObject *value, const core_path *path) {
    core_numpy_state *c = e->codec->state->numpy;
    int r = 0;
    bool is_array = (PyObject *)Py_TYPE(value) == c->ndarray;
    if (!is_array && !is_of(value, c->generic))
        return encode_dtype(e, value, path);
    PyObject *dtype = PyObject_GetAttrString(value, "dtype");
    PyObject *type = dtype && !is_array ? PyObject_GetAttrString(dtype, "type") : NULL;
    bool subclass = type && type != (PyObject *)Py_TYPE(value); /* of a scalar type: it would arrive as its base */
    Py_XDECREF(type);
    if (subclass) {
        Py_DECREF(dtype);
        return 0;
    }
    PyObject *spec = dtype ? spec_of(e, dtype, value, path) : NULL;
    Py_XDECREF(dtype);
    if (!spec)
        return -1;
    int readonly = is_array ? is_readonly(value) : 0;
    int shared = is_array && readonly >= 0 ? core_encode_shared_array(e, value, spec, readonly ? READONLY : 0) : 0;
    if (readonly < 0 || shared < 0)
        r = -1;
    else if (!shared)
        r = is_array ? encode_array(e, value, spec, readonly ? READONLY : 0) : encode_scalar(e, value, spec);
    Py_DECREF(spec);
    return r < 0 ? -1 : 1;
}

/* ---- decoding arrays ---- */

/* read_shape: reads the lengths, and computes the number of items. */
static PyObject *read_shape(core_decoder *d, piso_reader *r, int64_t *ret_items) {
    piso_item array;
    if (core_read(d, r, PISO_ARRAY, &array) < 0)
        return NULL;
    PyObject *shape = PyTuple_New((Py_ssize_t)array.as.count);
    int64_t items = 1;
    for (size_t i = 0; shape && i < array.as.count; i++) {
        piso_item length;
        PyObject *number = NULL;
        if (core_read(d, r, PISO_INT, &length) == 0) {
            if (length.as.integer < 0 || __builtin_mul_overflow(items, length.as.integer, &items))
                core_malformed(d, "an array of an impossible shape");
            else
                number = PyLong_FromLongLong(length.as.integer);
        }
        if (number)
            PyTuple_SET_ITEM(shape, (Py_ssize_t)i, number);
        else
            Py_CLEAR(shape);
    }
    *ret_items = items;
    return shape;
}

/* check_size: checks that the bytes are exactly those of the items, so that NumPy never allocates an amount that the
 * peer chose. Items without bytes could have any count, so their count is limited: a loop over them must end. */
static int check_size(core_decoder *d, PyObject *dtype, int64_t items, size_t size) {
    PyObject *number = PyObject_GetAttrString(dtype, "itemsize");
    int64_t needed = number ? PyLong_AsLongLong(number) : -1;
    Py_XDECREF(number);
    if (needed < 0)
        return -1;
    if (needed == 0 && items > MAX_EMPTY_ITEMS) {
        core_malformed(d, "an array of too many items without bytes");
        return -1;
    }
    if (!__builtin_mul_overflow(needed, items, &needed) && (size_t)needed == size)
        return 0;
    core_malformed(d, "an array whose shape does not match its size in bytes");
    return -1;
}

/* make_array: calls ndarray(shape, dtype, buffer, 0, None, order), over memory whose size was checked. */
static PyObject *make_array(core_decoder *d, PyObject *shape, PyObject *dtype, PyObject *owner, size_t size,
                            int64_t flags) {
    core_numpy_state *c = d->codec->state->numpy;
    PyObject *order = PyUnicode_FromString(flags & FORTRAN ? "F" : "C");
    PyObject *zero = PyLong_FromLong(0), *array = NULL;
    if (order && zero) {
        PyObject *args[] = {NULL, shape, dtype, size ? owner : Py_None, zero, Py_None, order};
        array = PyObject_Vectorcall(c->ndarray, args + 1, 6 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(order);
    Py_XDECREF(zero);
    if (array && flags & READONLY) {
        PyObject *result = PyObject_CallMethod(array, "setflags", "O", Py_False);
        if (!result)
            Py_CLEAR(array);
        Py_XDECREF(result);
    }
    return array;
}

static PyObject *decode_array(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    piso_item flags;
    size_t size;
    if (core_read_array(d, ext, 4, &r) < 0 || core_numpy_needed(d) < 0)
        return NULL;
    int64_t items;
    PyObject *dtype = core_dtype_from_spec(d, &r), *shape = dtype ? read_shape(d, &r, &items) : NULL;
    PyObject *owner = NULL, *array = NULL;
    if (shape && core_read(d, &r, PISO_INT, &flags) == 0)
        owner = core_decode_data(d, &r, &size);
    if (owner && check_size(d, dtype, items, size) == 0)
        array = make_array(d, shape, dtype, owner, size, flags.as.integer);
    Py_XDECREF(dtype);
    Py_XDECREF(shape);
    Py_XDECREF(owner);
    return core_check_payload_end(d, &r, array);
}

/* scalar_from_bytes: returns the element of a zero-dimensional array over the bytes. */
static PyObject *scalar_from_bytes(core_decoder *d, PyObject *dtype, PyObject *bytes) {
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    if (check_size(d, dtype, 1, size) < 0)
        return NULL;
    PyObject *owner = PyByteArray_FromObject(bytes), *shape = owner ? PyTuple_New(0) : NULL;
    PyObject *array = shape ? make_array(d, shape, dtype, owner, size, 0) : NULL;
    PyObject *scalar = array ? PyObject_GetItem(array, shape) : NULL;
    Py_XDECREF(owner);
    Py_XDECREF(shape);
    Py_XDECREF(array);
    return scalar;
}

static PyObject *decode_scalar(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    if (core_read_array(d, ext, 2, &r) < 0 || core_numpy_needed(d) < 0)
        return NULL;
    PyObject *dtype = core_dtype_from_spec(d, &r), *data = dtype ? core_decode(d, &r) : NULL, *scalar = NULL;
    PyObject *kind = data ? PyObject_GetAttrString(dtype, "kind") : NULL;
    bool is_text = kind && PyUnicode_CheckExact(data) && PyUnicode_CompareWithASCIIString(kind, "U") == 0;
    bool is_bytes = kind && PyBytes_CheckExact(data);
    if (is_text || (is_bytes && PyUnicode_CompareWithASCIIString(kind, "S") == 0)) {
        PyObject *type = PyObject_GetAttrString(dtype, "type"); /* numpy.str_ or numpy.bytes_ */
        scalar = type ? PyObject_CallOneArg(type, data) : NULL;
        Py_XDECREF(type);
    } else if (is_bytes) {
        scalar = scalar_from_bytes(d, dtype, data);
    } else if (kind) {
        core_malformed(d, "a scalar without bytes");
    }
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    Py_XDECREF(data);
    return core_check_payload_end(d, &r, scalar);
}

static PyObject *decode_dtype(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    return core_numpy_needed(d) < 0 ? NULL : core_check_payload_end(d, &r, core_dtype_from_spec(d, &r));
}

/* ---- registration ---- */

static int encode_exact(core_encoder *e, int Py_UNUSED(kind), PyObject *value, const core_path *path) {
    return encode(e, value, path) < 0 ? -1 : 0;
}

static const core_encoder_entry entry = {.encode = encode_exact, .direct = true};

static int encode_fallback(core_encoder *e, PyObject *value, const core_path *path) {
    core_state *state = e->codec->state;
    int r = core_numpy_load(state, false);
    if (r <= 0)
        return r;
    if ((PyObject *)Py_TYPE(value) == state->numpy->ndarray && core_add_type(state, state->numpy->ndarray, &entry) < 0)
        return -1;
    return encode(e, value, path);
}

void core_arrays_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode_fallback, .direct = true});
    core_add_decoder(state, PISO_EXT_ARRAY, (core_decoder_entry){.decode = decode_array, .cost = 500, .special = true});
    core_add_decoder(state, PISO_EXT_SCALAR,
                     (core_decoder_entry){.decode = decode_scalar, .cost = 350, .special = true});
    core_add_decoder(state, PISO_EXT_DTYPE, (core_decoder_entry){.decode = decode_dtype, .cost = 100, .special = true});
}
