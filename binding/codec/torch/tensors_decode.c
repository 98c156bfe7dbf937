/* tensors_decode.c - decodes tensors of PyTorch. The peer chose the numbers: nothing is created from them before they
 * have been checked to stay inside the received memory.
 *
 * A segment that the peer shares stays mapped as long as the peer has it, with a cached tensor for each shape
 * (`segment_cache` of the codec): receiving it again costs one `detach`. The peer reports when it has released the
 * segment (PISO_EVENT_RETIRED). Segments that this process shares are only referred to weakly: this process itself
 * frees them. */
#include <string.h>

#include "codec/buffers/buffers.h"
#include "codec/decode.h"
#include "tensors.h"

#define SEEN_LIMIT 64 /* shapes that are cached for one storage */

/* ---- copied ---- */

static PyObject *empty(core_torch_state *t, const core_tensor_layout *l) {
    core_tensor_numbers n;
    PyObject *args = core_tensor_numbers_new(l, &n) == 0 ? PyTuple_Pack(2, n.shape, n.strides) : NULL;
    PyObject *function = args ? PyObject_GetAttrString(t->module, "empty_strided") : NULL, *tensor = NULL;
    PyObject *options = function ? Py_BuildValue("{s:O,s:s}", "dtype", l->dtype->object, "device", "cpu") : NULL;
    if (options)
        tensor = PyObject_Call(function, args, options);
    core_tensor_numbers_clear(&n);
    Py_XDECREF(function);
    Py_XDECREF(args);
    Py_XDECREF(options);
    return tensor;
}

/* over_buffer: returns a tensor over memory that `owner` keeps alive. */
static PyObject *over_buffer(core_torch_state *t, const core_tensor_layout *l, PyObject *owner) {
    PyObject *storage = core_torch_buffer(t, owner, NULL), *tensor = NULL;
    if (storage)
        tensor = core_tensor_over(t, storage, l);
    if (tensor && PyObject_SetAttr(storage, t->buffer_ref_attribute, owner) < 0)
        Py_CLEAR(tensor);
    Py_XDECREF(storage);
    return tensor;
}

static PyObject *from_bytes(core_decoder *d, piso_reader *r, const core_tensor_layout *l) {
    core_torch_state *t = d->codec->state->torch;
    size_t size;
    PyObject *owner = core_decode_data(d, r, &size), *tensor = NULL;
    if (owner && !core_tensor_fits(l, size))
        core_malformed(d, "a tensor that is larger than its bytes");
    else if (owner && core_tensor_charge(d, l, size))
        tensor = l->count ? over_buffer(t, l, owner) : empty(t, l);
    Py_XDECREF(owner);
    return tensor;
}

/* ---- shared ---- */

/* open: returns a tensor over a segment. */
static PyObject *open(core_decoder *d, const core_tensor_layout *l, piso_segment *segment) {
    core_state *state = d->codec->state;
    if (!core_tensor_fits(l, piso_segment_size(segment)))
        return core_malformed(d, "a tensor that is larger than its memory");
    if (!core_tensor_charge(d, l, piso_segment_size(segment)))
        return NULL;
    PyObject *storage = core_storage_open(state, segment, core_keeps_fd(d->codec)), *tensor = NULL;
    if (storage)
        tensor = core_tensor_over(state->torch, storage, l);
    Py_XDECREF(storage);
    return tensor;
}

/* keep: caches a tensor under its description. Returns 0 or -1. */
static int keep(PyObject *shapes, PyObject *description, PyObject *tensor) {
    if (PyDict_GET_SIZE(shapes) >= SEEN_LIMIT) {
        Py_ssize_t position = 0;
        PyObject *first, *value;
        if (PyDict_Next(shapes, &position, &first, &value)) {
            Py_INCREF(first);
            int r = PyDict_DelItem(shapes, first); /* the other tensors keep the storage */
            Py_DECREF(first);
            if (r < 0)
                return -1;
        }
    }
    return PyDict_SetItem(shapes, description, tensor);
}

/* open_again: returns a tensor over the peer's segment, from the cache for this description, or a new one. The
 * description is everything before the data, so a cached tensor has been checked. */
static PyObject *open_again(core_decoder *d, const core_tensor_layout *l, piso_segment *segment,
                            PyObject *description) {
    core_torch_state *t = d->codec->state->torch;
    PyObject *key = PyLong_FromVoidPtr(segment), *shapes = key ? core_segment_cache(d->codec, key) : NULL;
    PyObject *tensor = shapes ? Py_XNewRef(PyDict_GetItemWithError(shapes, description)) : NULL;
    if (shapes && !tensor && !PyErr_Occurred()) {
        Py_INCREF(shapes);
        tensor = open(d, l, segment);
        if (tensor && keep(shapes, description, tensor) < 0)
            Py_CLEAR(tensor);
        Py_DECREF(shapes);
        core_segment_cache_check(d->codec, key, segment);
    }
    Py_XDECREF(key);
    if (tensor)
        Py_SETREF(tensor, PyObject_CallMethodNoArgs(tensor, t->detach));
    return tensor;
}

/* looks_like: returns whether a tensor of this process has the same elements, and the same bits, as the received one:
 * 1, 0, -1. */
static int looks_like(core_torch_state *t, PyObject *tensor, const core_tensor_head *h, const core_shared *shared) {
    core_dlpack_tensor view;
    const core_tensor_layout *l = &h->layout;
    if (core_torch_view(t, tensor, &view) != l->dtype || view.ndim != l->ndim ||
        (char *)view.data != (char *)shared->data + l->offset * l->dtype->itemsize)
        return 0;
    for (Py_ssize_t i = 0; i < l->ndim; i++)
        if (view.shape[i] != l->shape[i] || view.strides[i] != l->strides[i])
            return 0;
    int bits = core_tensor_bits(t, tensor, l->dtype);
    return bits < 0 ? -1 : bits == (h->flags & (CORE_TENSOR_CONJ | CORE_TENSOR_NEG));
}

/* takes_gradient: returns whether a tensor over the same elements can require a gradient: not one of
 * torch.inference_mode. */
static bool takes_gradient(PyObject *tensor) {
    PyObject *inference = PyObject_CallMethod(tensor, "is_inference", NULL);
    bool takes = inference == Py_False;
    Py_XDECREF(inference);
    PyErr_Clear(); /* a new one is created instead */
    return takes;
}

/* sent_before: if the received tensor is the one that was sent last, and it still exists, returns a new tensor over the
 * same elements, which costs no more than a `detach`. Otherwise NULL without an exception. */
static PyObject *sent_before(core_torch_state *t, core_tensor_head *h, const core_shared *shared) {
    PyObject *sent = shared && shared->recent ? PyObject_CallNoArgs(shared->recent) : NULL, *tensor = NULL;
    bool good = sent && sent != Py_None && (!(h->flags & CORE_TENSOR_GRAD) || takes_gradient(sent));
    if (good && looks_like(t, sent, h, shared) == 1) {
        tensor = PyObject_CallMethodNoArgs(sent, t->detach);
        h->flags &= ~(CORE_TENSOR_CONJ | CORE_TENSOR_NEG); /* the copy has them */
    }
    Py_XDECREF(sent);
    return tensor;
}

static PyObject *from_data(core_decoder *d, piso_reader *r, core_tensor_head *h, const uint8_t *start) {
    piso_reader data = *r;
    piso_item item;
    bool ours;
    piso_segment *segment = piso_read(&data, &item) == 1 ? core_take_segment(d, &item, &ours) : NULL;
    if (!segment)
        return PyErr_Occurred() ? NULL : from_bytes(d, r, &h->layout);
    const uint8_t *end = r->cursor;
    *r = data;
    PyObject *tensor = NULL;
    if (ours) {
        tensor = sent_before(d->codec->state->torch, h, core_shared_find(segment));
        if (!tensor && !PyErr_Occurred())
            tensor = open(d, &h->layout, segment);
    } else {
        PyObject *description = PyBytes_FromStringAndSize((const char *)start, end - start);
        tensor = description ? open_again(d, &h->layout, segment, description) : NULL;
        Py_XDECREF(description);
    }
    piso_segment_unref(segment);
    return tensor;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    core_tensor_head h;
    if (core_read_array(d, ext, 7, &r) < 0 || core_torch_needed(d) < 0)
        return NULL;
    const uint8_t *start = r.cursor;
    if (core_tensor_read_head(d, &r, &h) < 0)
        return NULL;
    PyObject *tensor = core_check_payload_end(d, &r, from_data(d, &r, &h, start));
    return core_tensor_finish(d->codec->state->torch, tensor, h.flags);
}

void core_tensors_decode_init(core_state *state) {
    core_add_decoder(state, PISO_EXT_TENSOR, (core_decoder_entry){.decode = decode, .cost = 1800, .special = true});
}
