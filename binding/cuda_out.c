/* cuda_out.c - tensors of a GPU to a message: [UUID of the device, memory, tensor].
 *
 * Devices go by their UUID, since the same one may have another number on the other side. Where the memory itself
 * cannot be shared, `memory` is nil and the tensor follows as a copy in the memory of the CPU. */
#include "tensors.h"

/* write_uuid: that of the device which the tensor lies on. 0 or -1. */
static int write_uuid(core_encoder *e, PyObject *tensor) {
    PyObject *index = PyObject_CallMethod(tensor, "get_device", NULL), *hook = e->codec->state->device_uuid;
    PyObject *uuid = index && hook ? PyObject_CallOneArg(hook, index) : NULL;
    Py_XDECREF(index);
    int r = -1;
    if (uuid && PyBytes_Check(uuid) && PyBytes_GET_SIZE(uuid) == CORE_UUID_SIZE) {
        piso_write_bin(e->w, PyBytes_AS_STRING(uuid), CORE_UUID_SIZE);
        r = 0;
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "the GPU of a tensor has no UUID; send tensor.cpu()");
    }
    Py_XDECREF(uuid);
    return r;
}

/* to_cpu: the memory of a plain tensor from its first element to its last, in a new tensor. Waits for the device. */
static PyObject *to_cpu(PyObject *raw, const core_tensor_layout *l) {
    PyObject *flat = PyObject_CallMethod(raw, "as_strided", "(L)(i)", (long long)l->extent, 1);
    PyObject *copy = flat ? PyObject_CallMethod(flat, "cpu", NULL) : NULL;
    Py_XDECREF(flat);
    return copy;
}

static int write_copied(core_encoder *e, PyObject *tensor, PyObject *dtype, PyObject *spec, core_tensor_layout *l,
                        int flags) {
    core_torch_state *t = e->codec->state->torch;
    PyObject *raw = l->dense ? core_tensor_plain(t, tensor, flags) : core_tensor_compact(t, tensor, dtype, l, flags);
    PyObject *copy = raw ? to_cpu(raw, l) : NULL;
    Py_XDECREF(raw);
    const void *data = copy && l->count ? core_torch_data(t, copy) : NULL;
    int r = -1;
    if (copy && !PyErr_Occurred()) {
        piso_write_nil(e->w);
        size_t mark = piso_write_ext_begin(e->w, PISO_EXT_TENSOR);
        core_tensor_write_head(e->w, spec, l, 0, flags);
        r = core_encode_data(e, data, (size_t)l->extent * (size_t)l->itemsize);
        piso_write_ext_end(e->w, mark);
    }
    Py_XDECREF(copy);
    return r;
}

int core_encode_cuda_tensor(core_encoder *e, PyObject *tensor, PyObject *dtype, PyObject *spec, core_tensor_layout *l,
                            int flags) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_CUDA_TENSOR);
    piso_write_array(e->w, 3);
    int r = write_uuid(e, tensor);
    if (r == 0)
        r = write_copied(e, tensor, dtype, spec, l, flags);
    piso_write_ext_end(e->w, mark);
    return r;
}
