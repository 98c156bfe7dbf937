/* shared_arrays.c - NumPy arrays whose memory is a segment (pyisolate.empty_array) are shared, in sessions that share
 * arrays: [dtype, shape, strides, offset, flags, data]. Strides and offset are in bytes, `data` is a span of the whole
 * segment. NumPy itself checks that all elements are inside.
 *
 * An array that is not in a segment is copied: NumPy has no way to move an array with its views. */
#include "codec/buffers/buffers.h"
#include "codec/buffers/shared.h"
#include "codec/decode.h"
#include "numpy.h"

/* ---- encoding ---- */

/* shared_base: returns the Shared that owns an array's memory, through the arrays that it is a view of; borrowed. NULL
 * without an exception when there is none. */
static core_shared *shared_base(core_state *state, PyObject *array) {
    PyObject *base = Py_NewRef(array);
    while (base && (PyObject *)Py_TYPE(base) == state->numpy->ndarray)
        Py_SETREF(base, PyObject_GetAttrString(base, "base"));
    core_shared *shared = base && Py_TYPE(base) == state->shared_type ? (core_shared *)base : NULL;
    Py_XDECREF(base); /* the array holds it */
    return shared;
}

static void write_tuple(piso_writer *w, PyObject *numbers) {
    piso_write_array(w, (size_t)PyTuple_GET_SIZE(numbers));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(numbers); i++)
        piso_write_int(w, PyLong_AsLongLong(PyTuple_GET_ITEM(numbers, i)));
}

/* address: returns the address of an array's first element. */
static char *address(PyObject *array) {
    PyObject *interface = PyObject_GetAttrString(array, "__array_interface__");
    PyObject *data = interface ? PyDict_GetItemString(interface, "data") : NULL;
    void *pointer = data && PyTuple_Check(data) ? PyLong_AsVoidPtr(PyTuple_GET_ITEM(data, 0)) : NULL;
    Py_XDECREF(interface);
    return pointer;
}

static int write_shared(core_encoder *e, PyObject *array, PyObject *spec, core_shared *shared, int flags) {
    PyObject *shape = PyObject_GetAttrString(array, "shape");
    PyObject *strides = shape ? PyObject_GetAttrString(array, "strides") : NULL;
    char *first = strides ? address(array) : NULL;
    int index = -1;
    if (first)
        index = core_shared_write(e->codec->state, e->w, shared, "sending a shared array");
    if (index >= 0) {
        core_note_shared(e->codec);
        size_t mark = piso_write_ext_begin(e->w, PISO_EXT_SHARED_ARRAY);
        piso_write_array(e->w, 6);
        piso_write_raw(e->w, PyBytes_AS_STRING(spec), (size_t)PyBytes_GET_SIZE(spec));
        write_tuple(e->w, shape);
        write_tuple(e->w, strides);
        piso_write_int(e->w, first - (char *)shared->data);
        piso_write_int(e->w, flags);
        size_t inner = piso_write_ext_begin(e->w, PISO_EXT_BUFFER);
        piso_write_int(e->w, index);
        piso_write_ext_end(e->w, inner);
        piso_write_ext_end(e->w, mark);
    }
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    return index < 0 ? -1 : 0;
}

int core_encode_shared_array(core_encoder *e, PyObject *array, PyObject *spec, int flags) {
    if (!e->codec->share_numpy || !e->codec->session)
        return 0;
    core_shared *shared = shared_base(e->codec->state, array);
    if (!shared)
        return PyErr_Occurred() ? -1 : 0;
    return write_shared(e, array, spec, shared, flags) < 0 ? -1 : 1;
}

/* ---- decoding ---- */

/* map_for_peer: returns the mapping, which is cached for the next message if the segment is the peer's. New
 * reference. */
static core_shared *map_for_peer(core_decoder *d, piso_segment *segment, bool ours) {
    core_shared *shared = core_shared_map(d->codec->state, segment, core_keeps_fd(d->codec));
    if (!shared || ours)
        return shared;
    PyObject *key = PyLong_FromVoidPtr(segment), *kept = key ? core_segment_cache(d->codec, key) : NULL;
    if (!kept || PyDict_SetItem(kept, Py_None, (PyObject *)shared) < 0)
        Py_CLEAR(shared);
    if (key)
        core_segment_cache_check(d->codec, key, segment);
    Py_XDECREF(key);
    return shared;
}

/* charge_for: charges for overlapping elements (core_charge_virtual), and those without bytes. */
static bool charge_for(core_decoder *d, PyObject *array, uint64_t size) {
    PyObject *bytes = PyObject_GetAttrString(array, "nbytes"), *count = PyObject_GetAttrString(array, "size");
    uint64_t whole = bytes ? PyLong_AsUnsignedLongLong(bytes) : 0, items = count ? PyLong_AsUnsignedLongLong(count) : 0;
    Py_XDECREF(bytes);
    Py_XDECREF(count);
    if (PyErr_Occurred())
        PyErr_Clear(); /* a number of more than 64 bits */
    else if (core_charge_virtual(d, whole > items ? whole : items, size))
        return true;
    if (!PyErr_Occurred())
        core_malformed(d, "a shared array of an impossible shape");
    return false;
}

/* make_array: calls ndarray(shape, dtype, buffer, offset, strides). */
static PyObject *make_array(core_decoder *d, piso_reader *r, PyObject *dtype, bool *ret_readonly) {
    PyObject *shape = core_decode(d, r), *strides = shape ? core_decode(d, r) : NULL, *array = NULL;
    piso_item offset, flags, data;
    bool ours;
    piso_segment *segment = NULL;
    if (strides && PyList_CheckExact(shape) && PyList_CheckExact(strides) && core_read(d, r, PISO_INT, &offset) == 0 &&
        core_read(d, r, PISO_INT, &flags) == 0 && core_read(d, r, PISO_EXT, &data) == 0)
        segment = core_take_segment(d, &data, &ours);
    core_shared *shared = segment ? map_for_peer(d, segment, ours) : NULL;
    if (shared) {
        array = PyObject_CallFunction(d->codec->state->numpy->ndarray, "OOOLO", shape, dtype, shared,
                                      (long long)offset.as.integer, strides);
        if (array && !charge_for(d, array, piso_segment_size(segment)))
            Py_CLEAR(array);
        *ret_readonly = flags.as.integer != 0;
    } else if (!PyErr_Occurred()) {
        core_malformed(d, "a shared array without memory");
    }
    piso_segment_unref(segment);
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    Py_XDECREF(shared); /* the array holds it */
    return array;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    bool readonly = false;
    if (core_read_array(d, ext, 6, &r) < 0 || core_numpy_needed(d) < 0)
        return NULL;
    PyObject *dtype = core_dtype_from_spec(d, &r);
    PyObject *array = dtype ? make_array(d, &r, dtype, &readonly) : NULL;
    Py_XDECREF(dtype);
    if (array && readonly) {
        PyObject *result = PyObject_CallMethod(array, "setflags", "O", Py_False);
        if (!result)
            Py_CLEAR(array);
        Py_XDECREF(result);
    }
    return core_check_payload_end(d, &r, array);
}

void core_shared_arrays_init(core_state *state) {
    core_add_decoder(state, PISO_EXT_SHARED_ARRAY,
                     (core_decoder_entry){.decode = decode, .cost = 1000, .special = true});
}
