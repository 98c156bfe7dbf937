/* cuda_in.c - tensors of a GPU from a message (cuda_out.c): onto the device of this process that has the UUID. */
#include "tensors.h"

/* device_of: the torch.device with a UUID, or NULL with an error that says what is missing. */
static PyObject *device_of(core_decoder *d, const piso_item *uuid) {
    PyObject *hook = d->codec->state->device_of;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)uuid->as.bytes.data, CORE_UUID_SIZE);
    PyObject *device = bytes && hook ? PyObject_CallOneArg(hook, bytes) : NULL;
    Py_XDECREF(bytes);
    if (!device && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "devices are not known here");
    return device;
}

/* call_on: torch.<name>(*args, dtype=..., device=...); takes args. */
static PyObject *call_on(core_torch_state *t, const char *name, PyObject *args, PyObject *dtype, PyObject *device) {
    PyObject *function = args ? PyObject_GetAttrString(t->module, name) : NULL, *tensor = NULL;
    PyObject *options = function ? Py_BuildValue("{s:O,s:O}", "dtype", dtype, "device", device) : NULL;
    if (options)
        tensor = PyObject_Call(function, args, options);
    Py_XDECREF(args);
    Py_XDECREF(function);
    Py_XDECREF(options);
    return tensor;
}

/* over: a tensor over a storage on a device. */
static PyObject *over(core_torch_state *t, PyObject *storage, const core_tensor_head *h, PyObject *device) {
    PyObject *tensor = call_on(t, "empty", Py_BuildValue("(i)", 0), h->dtype, device);
    if (!tensor)
        return NULL;
    PyObject *args[] = {tensor, storage, h->offset, h->shape, h->strides};
    PyObject *result = PyObject_VectorcallMethod(t->set, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!result)
        Py_CLEAR(tensor);
    Py_XDECREF(result);
    return tensor;
}

/* upload: the bytes of `owner`, which has a buffer, as a storage on the device. */
static PyObject *upload(core_torch_state *t, PyObject *owner, PyObject *device) {
    PyObject *function = PyObject_GetAttrString(t->module, "frombuffer"), *flat = NULL, *storage = NULL;
    PyObject *args = function ? PyTuple_Pack(1, owner) : NULL;
    PyObject *options = args ? Py_BuildValue("{s:O}", "dtype", PyDict_GetItemString(t->dtypes, "uint8")) : NULL;
    if (options)
        flat = PyObject_Call(function, args, options);
    if (flat)
        Py_SETREF(flat, PyObject_CallMethod(flat, "to", "O", device));
    if (flat)
        storage = PyObject_CallMethodNoArgs(flat, t->untyped_storage);
    Py_XDECREF(function);
    Py_XDECREF(args);
    Py_XDECREF(options);
    Py_XDECREF(flat);
    return storage;
}

static PyObject *from_copy(core_decoder *d, piso_reader *r, const core_tensor_head *h, PyObject *device) {
    core_torch_state *t = d->codec->state->torch;
    size_t size;
    PyObject *owner = core_decode_data(d, r, &size), *tensor = NULL;
    if (owner && !core_tensor_fits(&h->layout, size)) {
        core_malformed(d, "a tensor that is larger than its bytes");
    } else if (owner && h->layout.count == 0) {
        tensor = call_on(t, "empty_strided", PyTuple_Pack(2, h->shape, h->strides), h->dtype, device);
    } else if (owner) {
        PyObject *storage = upload(t, owner, device);
        tensor = storage ? over(t, storage, h, device) : NULL;
        Py_XDECREF(storage);
    }
    Py_XDECREF(owner);
    return tensor;
}

/* from_parts: `inner` is the tensor. */
static PyObject *from_parts(core_decoder *d, const piso_item *uuid, const piso_item *inner) {
    piso_reader r;
    core_tensor_head h = {.dtype = NULL};
    PyObject *device = core_read_array(d, inner, 7, &r) == 0 ? device_of(d, uuid) : NULL, *tensor = NULL;
    if (device && core_tensor_read_head(d, &r, &h) == 0)
        tensor = from_copy(d, &r, &h, device);
    core_tensor_head_clear(&h);
    Py_XDECREF(device);
    return core_tensor_finish(d->codec->state->torch, tensor, h.flags);
}

PyObject *core_decode_cuda_tensor(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    piso_item uuid, memory, inner;
    if (core_read_array(d, ext, 3, &r) < 0 || core_read(d, &r, PISO_BIN, &uuid) < 0 ||
        core_read(d, &r, PISO_NIL, &memory) < 0 || core_read(d, &r, PISO_EXT, &inner) < 0)
        return NULL;
    if (uuid.as.bytes.size != CORE_UUID_SIZE || inner.ext_type != PISO_EXT_TENSOR)
        return core_malformed(d, "a tensor of an impossible device");
    if (core_torch_needed(d) < 0)
        return NULL;
    return from_parts(d, &uuid, &inner);
}
