/* tensors_decode.c - tensors of PyTorch from a message. The numbers are the peer's: nothing is made of them before it is
 * known that they stay inside of the memory that came.
 *
 * What the peer shares is kept mapped for as long as the peer has it, with a tensor for each shape that was seen
 * (`seen` of the codec): when it comes again, that costs one `detach`. The peer says when it has let go
 * (PISO_EVENT_RETIRED). What this side has shared itself is only known weakly: its end is this side's to notice. */
#include <string.h>

#include "codec/lease.h"
#include "tensors.h"

#define SEEN_LIMIT 64 /* shapes that are kept of one storage */

/* read_numbers: an array of at most CORE_TENSOR_DIMS integers. 0 or -1. */
static int read_numbers(core_decoder *d, piso_reader *r, int64_t *ret_numbers, Py_ssize_t *ret_count) {
    piso_item array, number;
    if (core_read(d, r, PISO_ARRAY, &array) < 0)
        return -1;
    if (array.as.count > CORE_TENSOR_DIMS) {
        core_malformed(d, "a tensor of too many dimensions");
        return -1;
    }
    for (size_t i = 0; i < array.as.count; i++) {
        if (core_read(d, r, PISO_INT, &number) < 0)
            return -1;
        ret_numbers[i] = number.as.integer;
    }
    *ret_count = (Py_ssize_t)array.as.count;
    return 0;
}

static core_torch_dtype *read_dtype(core_decoder *d, piso_reader *r) {
    piso_item name;
    if (core_read(d, r, PISO_STR, &name) < 0)
        return NULL;
    const char *data = (const char *)name.as.bytes.data;
    core_torch_dtype *dtype = core_torch_dtype_named(d->codec->state->torch, data, name.as.bytes.size);
    PyObject *text = dtype ? NULL : PyUnicode_DecodeUTF8(data, (Py_ssize_t)name.as.bytes.size, "replace");
    if (text)
        core_unfit(d, PyExc_TypeError, "the other side sent a tensor of dtype %.200R, which torch does not have here",
                   text);
    Py_XDECREF(text);
    return dtype;
}

/* read_layout: shape, strides, offset, flags: numbers that fit each other. */
static int read_layout(core_decoder *d, piso_reader *r, core_tensor_head *h) {
    piso_item offset, flags;
    Py_ssize_t dims;
    core_tensor_layout *l = &h->layout;
    if (read_numbers(d, r, l->shape, &l->ndim) < 0 || read_numbers(d, r, l->strides, &dims) < 0 ||
        core_read(d, r, PISO_INT, &offset) < 0 || core_read(d, r, PISO_INT, &flags) < 0)
        return -1;
    if (dims != l->ndim || offset.as.integer < 0 || flags.as.integer < 0 || flags.as.integer > 15 ||
        !core_layout_measure(l)) {
        core_malformed(d, "a tensor of an impossible shape");
        return -1;
    }
    l->offset = (Py_ssize_t)offset.as.integer;
    h->flags = (int)flags.as.integer;
    return 0;
}

int core_tensor_read_head(core_decoder *d, piso_reader *r, core_tensor_head *ret_head) {
    piso_item framework;
    if (core_read(d, r, PISO_INT, &framework) < 0)
        return -1;
    if (framework.as.integer != CORE_FRAMEWORK_TORCH) {
        core_malformed(d, "a tensor of an unknown framework");
        return -1;
    }
    ret_head->layout.dtype = read_dtype(d, r);
    return ret_head->layout.dtype ? read_layout(d, r, ret_head) : -1;
}

static PyObject *tuple_of(const int64_t *numbers, Py_ssize_t count) {
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple && i < count; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i]);
        if (number)
            PyTuple_SET_ITEM(tuple, i, number);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

int core_tensor_numbers_new(const core_tensor_layout *l, core_tensor_numbers *ret_numbers) {
    ret_numbers->offset = PyLong_FromSsize_t(l->offset);
    ret_numbers->shape = tuple_of(l->shape, l->ndim);
    ret_numbers->strides = tuple_of(l->strides, l->ndim);
    return ret_numbers->offset && ret_numbers->shape && ret_numbers->strides ? 0 : -1;
}

void core_tensor_numbers_clear(core_tensor_numbers *n) {
    Py_CLEAR(n->offset);
    Py_CLEAR(n->shape);
    Py_CLEAR(n->strides);
}

PyObject *core_tensor_over(core_torch_state *t, PyObject *storage, const core_tensor_layout *l) {
    core_tensor_numbers n;
    PyObject *tensor = NULL;
    if (core_tensor_numbers_new(l, &n) == 0)
        tensor = core_torch_over(t, storage, l->dtype, n.offset, n.shape, n.strides);
    core_tensor_numbers_clear(&n);
    return tensor;
}

bool core_tensor_fits(const core_tensor_layout *l, uint64_t size) {
    int64_t end;
    return !__builtin_add_overflow(l->extent, l->offset, &end) &&
           !__builtin_mul_overflow(end, l->dtype->itemsize, &end) && (uint64_t)end <= size;
}

bool core_tensor_charge(core_decoder *d, const core_tensor_layout *l, uint64_t size) {
    uint64_t whole;
    if (__builtin_mul_overflow((uint64_t)l->count, (uint64_t)l->dtype->itemsize, &whole))
        whole = INT64_MAX / 2;
    return core_charge_virtual(d, whole, size);
}

PyObject *core_tensor_finish(core_torch_state *t, PyObject *tensor, int flags) {
    if (tensor && flags & CORE_TENSOR_CONJ)
        Py_SETREF(tensor, PyObject_CallMethodNoArgs(tensor, t->conj));
    if (tensor && flags & CORE_TENSOR_NEG)
        Py_SETREF(tensor, PyObject_CallMethodOneArg(t->module, t->neg_view, tensor));
    PyObject *grad = flags & CORE_TENSOR_GRAD ? Py_True : Py_False;
    if (tensor && flags & CORE_TENSOR_PARAMETER)
        Py_SETREF(tensor, PyObject_CallFunctionObjArgs(t->parameter, tensor, grad, NULL));
    else if (tensor && grad == Py_True)
        Py_SETREF(tensor, PyObject_CallMethodOneArg(tensor, t->requires_grad_set, Py_True));
    return tensor;
}

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

/* over_buffer: a tensor over memory that `owner` keeps. */
static PyObject *over_buffer(core_torch_state *t, const core_tensor_layout *l, PyObject *owner) {
    PyObject *storage = core_torch_buffer(t, owner, NULL), *tensor = NULL;
    if (storage)
        tensor = core_tensor_over(t, storage, l);
    if (tensor && PyObject_SetAttr(storage, t->lease_attribute, owner) < 0)
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

/* open: a tensor over a segment. */
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

/* forget: what is kept over a segment. Keeps the current exception. */
static void forget(core_codec *c, PyObject *key) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (c->seen && PyDict_Contains(c->seen, key) > 0)
        PyDict_DelItem(c->seen, key);
    PyErr_Clear(); /* out of memory: it is kept until the session ends */
    PyErr_Restore(type, value, traceback);
}

void core_seen_check(core_codec *c, PyObject *key, const piso_segment *segment) {
    if (!piso_session_has_segment(c->session, segment))
        forget(c, key);
}

PyObject *core_seen_of(core_codec *c, PyObject *key) {
    if (!c->seen && !(c->seen = PyDict_New()))
        return NULL;
    PyObject *shapes = PyDict_GetItemWithError(c->seen, key);
    if (shapes || PyErr_Occurred())
        return shapes;
    shapes = PyDict_New();
    int r = shapes ? PyDict_SetItem(c->seen, key, shapes) : -1;
    Py_XDECREF(shapes); /* the dictionary has it */
    return r == 0 ? shapes : NULL;
}

/* keep: remembers a tensor under its description. 0 or -1. */
static int keep(PyObject *shapes, PyObject *description, PyObject *tensor) {
    if (PyDict_GET_SIZE(shapes) >= SEEN_LIMIT) {
        Py_ssize_t position = 0;
        PyObject *first, *value;
        if (PyDict_Next(shapes, &position, &first, &value)) {
            Py_INCREF(first);
            int r = PyDict_DelItem(shapes, first); /* the others keep the storage */
            Py_DECREF(first);
            if (r < 0)
                return -1;
        }
    }
    return PyDict_SetItem(shapes, description, tensor);
}

/* open_again: as the peer's segment was seen before under this description, or new. The description is all that is
 * before the data, so a tensor that is found has been checked. */
static PyObject *open_again(core_decoder *d, const core_tensor_layout *l, piso_segment *segment,
                            PyObject *description) {
    core_torch_state *t = d->codec->state->torch;
    PyObject *key = PyLong_FromVoidPtr(segment), *shapes = key ? core_seen_of(d->codec, key) : NULL;
    PyObject *tensor = shapes ? Py_XNewRef(PyDict_GetItemWithError(shapes, description)) : NULL;
    if (shapes && !tensor && !PyErr_Occurred()) {
        Py_INCREF(shapes);
        tensor = open(d, l, segment);
        if (tensor && keep(shapes, description, tensor) < 0)
            Py_CLEAR(tensor);
        Py_DECREF(shapes);
        core_seen_check(d->codec, key, segment);
    }
    Py_XDECREF(key);
    if (tensor)
        Py_SETREF(tensor, PyObject_CallMethodNoArgs(tensor, t->detach));
    return tensor;
}

piso_segment *core_take_segment(core_decoder *d, const piso_item *data, bool *ret_ours) {
    piso_reader r = {data->as.bytes.data, data->as.bytes.data + data->as.bytes.size};
    piso_item index;
    piso_span span;
    if (data->kind != PISO_EXT || data->ext_type != PISO_EXT_BUFFER || !d->event || piso_read(&r, &index) != 1 ||
        index.kind != PISO_INT || index.as.integer < 0 || index.as.integer >= d->event->nspans)
        return NULL;
    int refused = piso_event_refused(d->event, (uint32_t)index.as.integer);
    if (refused < 0) {
        core_raise(d->codec->state, refused, "taking shared memory");
        return NULL;
    }
    return piso_event_take_segment(d->event, (uint32_t)index.as.integer, &span, ret_ours);
}

/* looks_like: whether a tensor of this process has the same elements, and the same bits, as one that came. 1, 0, -1. */
static int looks_like(core_torch_state *t, PyObject *tensor, const core_tensor_head *h, const core_shared *shared) {
    core_dlpack_tensor view;
    const core_tensor_layout *l = &h->layout;
    if (core_torch_look(t, tensor, &view) != l->dtype || view.ndim != l->ndim ||
        (char *)view.data != (char *)shared->data + l->offset * l->dtype->itemsize)
        return 0;
    for (Py_ssize_t i = 0; i < l->ndim; i++)
        if (view.shape[i] != l->shape[i] || view.strides[i] != l->strides[i])
            return 0;
    int bits = core_tensor_bits(t, tensor, l->dtype);
    return bits < 0 ? -1 : bits == (h->flags & (CORE_TENSOR_CONJ | CORE_TENSOR_NEG));
}

/* takes_gradient: whether a tensor over the same elements can require a gradient: not one of torch.inference_mode. */
static bool takes_gradient(PyObject *tensor) {
    PyObject *inference = PyObject_CallMethod(tensor, "is_inference", NULL);
    bool takes = inference == Py_False;
    Py_XDECREF(inference);
    PyErr_Clear(); /* a new one is made instead */
    return takes;
}

/* sent_before: what came is what was sent last, which is still there: a new tensor over the same elements costs no more
 * than a `detach`. NULL without an exception where it is not so. */
static PyObject *sent_before(core_torch_state *t, core_tensor_head *h, const core_shared *shared) {
    PyObject *sent = shared && shared->recent ? PyObject_CallNoArgs(shared->recent) : NULL, *tensor = NULL;
    bool good = sent && sent != Py_None && (!(h->flags & CORE_TENSOR_GRAD) || takes_gradient(sent));
    if (good && looks_like(t, sent, h, shared) == 1) {
        tensor = PyObject_CallMethodNoArgs(sent, t->detach);
        h->flags &= ~(CORE_TENSOR_CONJ | CORE_TENSOR_NEG); /* it has them */
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

int core_torch_needed(core_decoder *d) {
    if (core_torch_load(d->codec->state, true) >= 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear(); /* replaced by one that says why it is needed */
        PyErr_SetString(PyExc_ImportError, "the other side sent a tensor, or something else of torch, but torch is "
                                           "not installed here; add it to the dependencies, or set share_torch");
    }
    return -1;
}

PyObject *core_decode_tensor(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    core_tensor_head h;
    if (core_read_array(d, ext, 7, &r) < 0 || core_torch_needed(d) < 0)
        return NULL;
    const uint8_t *start = r.cursor;
    if (core_tensor_read_head(d, &r, &h) < 0)
        return NULL;
    PyObject *tensor = core_whole(d, &r, from_data(d, &r, &h, start));
    return core_tensor_finish(d->codec->state->torch, tensor, h.flags);
}

void core_tensors_retired(core_codec *c, piso_segment *segment) {
    PyObject *key = c->seen ? PyLong_FromVoidPtr(segment) : NULL;
    if (key)
        forget(c, key);
    Py_XDECREF(key);
    PyErr_Clear(); /* out of memory, for the key */
    if (!core_shared_find(segment))
        piso_session_retire(c->session, segment);
}
