/* layout.c - the places of a tensor's elements: measured, taken from a tensor, read, written, and made into a
 * tensor. */
#include "codec/decode.h"
#include "tensors.h"

#include <string.h>

/* ---- computing ---- */

bool core_layout_measure(core_tensor_layout *l) {
    int64_t count = 1, last = 0, step;
    for (Py_ssize_t i = 0; i < l->ndim; i++) {
        if (l->shape[i] < 0 || l->strides[i] < 0 || __builtin_mul_overflow(count, l->shape[i], &count))
            return false;
        if (l->shape[i] > 0 && (__builtin_mul_overflow(l->shape[i] - 1, l->strides[i], &step) ||
                                __builtin_add_overflow(last, step, &last)))
            return false;
    }
    if (__builtin_add_overflow(last, 1, &last))
        return false;
    l->count = count;
    l->extent = count ? last : 0;
    /* dense: the strides, from the smallest, are the products of the preceding lengths. Repeated elements (stride 0)
     * take no space. */
    bool used[CORE_TENSOR_DIMS] = {false}, dense = true;
    for (int64_t expected = 1; dense;) {
        Py_ssize_t next = -1;
        for (Py_ssize_t i = 0; i < l->ndim; i++)
            if (!used[i] && l->shape[i] > 1 && l->strides[i] && (next < 0 || l->strides[i] < l->strides[next]))
                next = i;
        if (next < 0)
            break;
        used[next] = true;
        dense = l->strides[next] == expected;
        expected *= l->shape[next]; /* a divisor of count */
    }
    l->dense = dense;
    return true;
}

static int take_numbers(PyObject *tuple, int64_t *ret_numbers) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        ret_numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    return PyErr_Occurred() ? -1 : 0;
}

int core_tensor_measure(core_torch_state *t, PyObject *tensor, core_torch_dtype *dtype,
                        core_tensor_layout *ret_layout) {
    PyObject *shape = PyObject_GetAttr(tensor, t->shape), *strides = NULL, *offset = NULL;
    if (shape)
        strides = PyObject_CallMethodNoArgs(tensor, t->stride);
    if (strides)
        offset = PyObject_CallMethodNoArgs(tensor, t->storage_offset);
    int r = -1;
    if (offset && PyTuple_Check(shape) && PyTuple_Check(strides) && PyTuple_GET_SIZE(shape) <= CORE_TENSOR_DIMS &&
        PyTuple_GET_SIZE(strides) == PyTuple_GET_SIZE(shape)) {
        ret_layout->ndim = PyTuple_GET_SIZE(shape);
        ret_layout->offset = PyLong_AsSsize_t(offset);
        ret_layout->dtype = dtype;
        r = take_numbers(shape, ret_layout->shape) < 0 || take_numbers(strides, ret_layout->strides) < 0 ? -1 : 0;
        if (r == 0 && !core_layout_measure(ret_layout))
            r = -1;
    }
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    Py_XDECREF(offset);
    return r;
}

int core_tensor_flag(PyObject *tensor, PyObject *name, bool is_method, int value) {
    PyObject *answer = is_method ? PyObject_CallMethodNoArgs(tensor, name) : PyObject_GetAttr(tensor, name);
    if (!answer)
        return -1;
    Py_DECREF(answer); /* a bool, which is immortal */
    return answer == Py_True ? value : 0;
}

int core_tensor_bits(core_torch_state *t, PyObject *tensor, const core_torch_dtype *dtype) {
    bool complex = dtype->dlpack.code == CORE_DLPACK_COMPLEX; /* other dtypes are never conjugated */
    int conj = complex ? core_tensor_flag(tensor, t->is_conj, true, CORE_TENSOR_CONJ) : 0;
    int neg = core_tensor_flag(tensor, t->is_neg, true, CORE_TENSOR_NEG);
    return conj < 0 || neg < 0 ? -1 : conj | neg;
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

/* ---- in messages ---- */

void core_tensor_write_head(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags) {
    piso_write_array(w, 7);
    piso_write_int(w, CORE_FRAMEWORK_TORCH);
    piso_write_str(w, l->dtype->name, strlen(l->dtype->name));
    piso_write_array(w, (size_t)l->ndim);
    for (Py_ssize_t i = 0; i < l->ndim; i++)
        piso_write_int(w, l->shape[i]);
    piso_write_array(w, (size_t)l->ndim);
    for (Py_ssize_t i = 0; i < l->ndim; i++)
        piso_write_int(w, l->strides[i]);
    piso_write_int(w, offset);
    piso_write_int(w, flags);
}

void core_tensor_write_span(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags, int index) {
    size_t mark = piso_write_ext_begin(w, PISO_EXT_TENSOR);
    core_tensor_write_head(w, l, offset, flags);
    size_t data = piso_write_ext_begin(w, PISO_EXT_BUFFER);
    piso_write_int(w, index);
    piso_write_ext_end(w, data);
    piso_write_ext_end(w, mark);
}

/* read_numbers: reads an array of at most CORE_TENSOR_DIMS integers. Returns 0 or -1. */
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
        core_cannot_decode(d, PyExc_TypeError,
                           "the peer sent a tensor of dtype %.200R, which this process's torch does not have", text);
    Py_XDECREF(text);
    return dtype;
}

/* read_layout: reads shape, strides, offset and flags, and checks that the numbers are consistent. */
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
