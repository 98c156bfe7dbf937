/* memoryviews.c - memoryviews of native items, of any shape. A received one is C-contiguous over private memory. */
#include <string.h>

#include "buffers.h"
#include "codec/decode.h"

static const char formats[] = "cbBhHiIlLqQnNfd?"; /* the formats that memoryview.cast accepts */

static bool can_cast(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    if (format[0] == '@')
        format++;
    return format[0] && !format[1] && strchr(formats, format[0]);
}

static int encode_view(core_encoder *e, const Py_buffer *view, PyObject *owner, const core_path *path,
                       PyObject *value) {
    bool empty_grid = view->ndim > 1 && view->len == 0;
    if (!can_cast(view) || empty_grid)
        return core_encode_error(path, value, "its items must be native numbers; convert it to bytes or to an array");
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_MEMORYVIEW);
    const char *format = view->format ? view->format + (view->format[0] == '@') : "B";
    piso_write_array(e->w, 4);
    piso_write_str(e->w, format, 1);
    piso_write_array(e->w, (size_t)view->ndim);
    for (int i = 0; i < view->ndim; i++)
        piso_write_int(e->w, view->shape[i]);
    piso_write_bool(e->w, view->readonly);
    int r;
    if (PyBuffer_IsContiguous(view, 'C')) {
        r = core_encode_owned(e, owner, view->buf, (size_t)view->len);
    } else {
        PyObject *copy = PyBytes_FromStringAndSize(NULL, view->len);
        r = copy ? PyBuffer_ToContiguous(PyBytes_AS_STRING(copy), (Py_buffer *)view, view->len, 'C') : -1;
        if (r == 0)
            r = core_encode_data(e, PyBytes_AS_STRING(copy), (size_t)view->len);
        Py_XDECREF(copy);
    }
    piso_write_ext_end(e->w, mark);
    return r;
}

/* owner_of: returns the object whose memory a memoryview uses, borrowed, if only this message will use it; else
 * NULL. */
static PyObject *owner_of(core_encoder *e, PyObject *value) {
    PyMemoryViewObject *view = (PyMemoryViewObject *)value;
    PyObject *owner = view->view.obj;
    bool last = e->references && core_is_last(value, e->references) && view->mbuf &&
                Py_REFCNT((PyObject *)view->mbuf) == 1 && owner && core_is_last(owner, 1);
    return last ? owner : NULL;
}

static int encode(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *owner = owner_of(e, value);
    Py_buffer view;
    if (PyObject_GetBuffer(value, &view, PyBUF_FULL_RO) < 0)
        return -1;
    int r = encode_view(e, &view, owner, path, value);
    PyBuffer_Release(&view);
    return r;
}

/* cast: calls memoryview.cast(format), with a shape unless it has one dimension. */
static PyObject *cast(PyObject *bytes, PyObject *format, PyObject *shape) {
    PyObject *args = PyList_GET_SIZE(shape) == 1 ? PyTuple_Pack(1, format) : PyTuple_Pack(2, format, shape);
    PyObject *method = args ? PyObject_GetAttrString(bytes, "cast") : NULL;
    PyObject *view = method ? PyObject_Call(method, args, NULL) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(method);
    return view;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    piso_item readonly;
    size_t size;
    if (core_read_array(d, ext, 4, &r) < 0)
        return NULL;
    PyObject *format = core_decode(d, &r), *shape = format ? core_decode(d, &r) : NULL;
    PyObject *owner = NULL, *bytes = NULL, *view = NULL;
    if (shape && PyList_CheckExact(shape) && PyUnicode_CheckExact(format) && PyUnicode_GET_LENGTH(format) == 1 &&
        core_read(d, &r, PISO_BOOL, &readonly) == 0)
        owner = core_decode_data(d, &r, &size);
    else if (shape)
        core_malformed(d, "a memoryview without format or shape");
    if (owner)
        bytes = PyMemoryView_FromObject(owner);
    if (bytes && readonly.as.boolean)
        Py_SETREF(bytes, PyObject_CallMethod(bytes, "toreadonly", NULL));
    if (bytes)
        view = cast(bytes, format, shape);
    Py_XDECREF(format);
    Py_XDECREF(shape);
    Py_XDECREF(owner);
    Py_XDECREF(bytes);
    return core_check_payload_end(d, &r, view);
}

void core_memoryviews_init(core_state *state) {
    state->tables->memoryview = encode;
    core_add_decoder(state, PISO_EXT_MEMORYVIEW, (core_decoder_entry){.decode = decode, .cost = 450});
}
