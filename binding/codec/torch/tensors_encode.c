/* tensors_encode.c - encodes tensors of PyTorch: shared, or copied with their strides. */
#include <string.h>

#include "tensors.h"

/* A tensor with gaps between its elements, such as a column of a matrix, keeps its strides if the copy needs at most
 * this many times its own size, or at most these bytes. Otherwise it arrives contiguous. */
#define GAPS_FACTOR 4
#define GAPS_BYTES  (64 << 10)

static int flags_of(core_torch_state *t, PyObject *tensor, const core_torch_dtype *dtype) {
    int grad = core_tensor_flag(tensor, t->requires_grad, false, CORE_TENSOR_GRAD),
        bits = core_tensor_bits(t, tensor, dtype);
    if (grad < 0 || bits < 0)
        return -1;
    return grad | bits | ((PyObject *)Py_TYPE(tensor) == t->parameter ? CORE_TENSOR_PARAMETER : 0);
}

/* ---- shared ---- */

/* remember: records the tensor, because it is likely to be sent back. */
static void remember(core_shared *shared, PyObject *tensor) {
    PyObject *weak = PyWeakref_NewRef(tensor, NULL);
    Py_XSETREF(shared->recent, weak);
    if (!weak)
        PyErr_Clear(); /* out of memory: the slow path decodes it */
}

/* write_span: writes a tensor over shared memory; the offset is in elements. */
static int write_span(core_encoder *e, core_shared *shared, const core_tensor_layout *l, Py_ssize_t offset, int flags) {
    int index = core_shared_write(e->codec->state, e->w, shared, "sending a shared tensor");
    if (index < 0)
        return -1;
    core_note_shared(e->codec);
    core_tensor_write_span(e->w, l, offset, flags, index);
    return 0;
}

/* write_shared: returns 1; 0 when it must be copied; -1. */
static int write_shared(core_encoder *e, PyObject *tensor, core_tensor_layout *l, int flags) {
    core_torch_state *t = e->codec->state->torch;
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, t->untyped_storage);
    core_shared *shared = storage ? core_storage_share(e->codec->state, tensor, storage, l) : NULL;
    Py_XDECREF(storage);
    if (!shared)
        return PyErr_Occurred() ? -1 : 0;
    remember(shared, tensor);
    int r = write_span(e, shared, l, l->offset, flags);
    Py_DECREF(shared);
    return r < 0 ? -1 : 1;
}

/* ---- copied ---- */

/* is_alone: returns whether the storage belongs to one tensor, and to `storage`, its only other reference, and nobody
 * holds the tensor in C++: another library through DLPack, autograd for a backward pass. */
static bool is_alone(core_torch_state *t, PyObject *tensor, PyObject *storage) {
    return core_storage_holders(t, storage) == 2 && core_tensor_holders(t, tensor) == 1 &&
           Py_REFCNT(storage) == t->storage_references;
}

/* owner_of: returns the BufferRef of the tensor's memory, borrowed, if only this message will use that memory. Else
 * NULL, never an error. */
static PyObject *owner_of(core_encoder *e, PyObject *tensor) {
    core_torch_state *t = e->codec->state->torch;
    if (!e->references || !core_is_last(tensor, e->references))
        return NULL;
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, t->untyped_storage);
    PyObject *owner = storage ? PyObject_GetAttr(storage, t->buffer_ref_attribute) : NULL;
    /* three references: the storage's attribute, torch's, which keeps the buffer, and this one */
    bool last = owner && core_is_last(owner, 3) && is_alone(t, tensor, storage);
    PyErr_Clear(); /* a storage that was not received has no such attribute */
    Py_XDECREF(storage);
    Py_XDECREF(owner);
    return last ? owner : NULL;
}

static int write_bytes(core_encoder *e, PyObject *tensor, const core_tensor_layout *l, int flags) {
    PyObject *owner = owner_of(e, tensor);
    const void *data = l->count ? core_torch_data(e->codec->state->torch, tensor) : NULL;
    if (PyErr_Occurred())
        return -1;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_TENSOR);
    core_tensor_write_head(e->w, l, 0, flags);
    int r = core_encode_owned(e, owner, data, (size_t)l->extent * (size_t)l->dtype->itemsize);
    piso_write_ext_end(e->w, mark);
    return r;
}

PyObject *core_tensor_plain(core_torch_state *t, PyObject *tensor, int flags) {
    PyObject *raw = PyObject_CallMethodNoArgs(tensor, t->detach);
    if (raw && flags & CORE_TENSOR_CONJ)
        Py_SETREF(raw, PyObject_CallMethodNoArgs(raw, t->conj));
    if (raw && flags & CORE_TENSOR_NEG)
        Py_SETREF(raw, PyObject_CallMethodOneArg(t->module, t->neg_view, raw));
    return raw;
}

/* with_strides: copies the elements to the same places of new memory that is zero elsewhere. */
static PyObject *with_strides(PyObject *raw, const core_tensor_layout *l) {
    core_tensor_layout once = *l; /* repeated elements, of stride 0, are copied once: torch refuses to write them */
    for (Py_ssize_t i = 0; i < l->ndim; i++)
        if (l->strides[i] == 0 && l->shape[i] > 1)
            once.shape[i] = 1;
    core_tensor_numbers all, each = {0};
    PyObject *memory = PyObject_CallMethod(raw, "new_zeros", "(L)", (long long)l->extent);
    PyObject *from = NULL, *to = NULL, *copied = NULL, *view = NULL;
    if (core_tensor_numbers_new(l, &all) == 0 && core_tensor_numbers_new(&once, &each) == 0 && memory)
        from = PyObject_CallMethod(raw, "as_strided", "OOO", each.shape, each.strides, each.offset);
    if (from)
        to = PyObject_CallMethod(memory, "as_strided", "OO", each.shape, each.strides);
    if (to)
        copied = PyObject_CallMethod(to, "copy_", "O", from);
    if (copied)
        view = PyObject_CallMethod(memory, "as_strided", "OO", all.shape, all.strides);
    core_tensor_numbers_clear(&all);
    core_tensor_numbers_clear(&each);
    Py_XDECREF(memory);
    Py_XDECREF(from);
    Py_XDECREF(to);
    Py_XDECREF(copied);
    return view;
}

PyObject *core_tensor_compact(core_torch_state *t, PyObject *tensor, core_tensor_layout *l, int flags) {
    PyObject *raw = core_tensor_plain(t, tensor, flags), *copy = NULL;
    bool keeps_strides =
        l->extent / GAPS_FACTOR <= l->count || l->extent <= (int64_t)GAPS_BYTES / (int64_t)l->dtype->itemsize;
    if (raw)
        copy = keeps_strides ? with_strides(raw, l) : PyObject_CallMethod(raw, "contiguous", NULL);
    if (copy && core_tensor_measure(t, copy, l->dtype, l) < 0)
        Py_CLEAR(copy);
    Py_XDECREF(raw);
    return copy;
}

/* write_with_gaps: writes zeros in place of the bytes between the elements, which the receiver must not see. */
static int write_with_gaps(core_encoder *e, PyObject *tensor, core_tensor_layout *l, int flags) {
    PyObject *copy = core_tensor_compact(e->codec->state->torch, tensor, l, flags);
    int r = copy ? write_bytes(e, copy, l, flags) : -1;
    Py_XDECREF(copy);
    return r;
}

/* ---- what cannot be sent ---- */

/* flag_named: gets an attribute that is used for few tensors. Returns 1, 0, -1. */
static int flag_named(PyObject *tensor, const char *name) {
    PyObject *answer = PyObject_GetAttrString(tensor, name);
    Py_XDECREF(answer); /* a bool, which is immortal */
    return answer ? answer == Py_True : -1;
}

/* refuse: returns -1 with the TypeError, or 0 when nothing prevents sending the tensor, and whether it is on a GPU. */
static int refuse(core_encoder *e, PyObject *tensor, const core_path *path, int flags, bool *ret_cuda) {
    core_torch_state *t = e->codec->state->torch;
    PyObject *layout = PyObject_GetAttr(tensor, t->layout), *cpu = NULL;
    bool cuda = false;
    const char *problem = NULL;
    if (!layout)
        return -1;
    if (layout != t->strided)
        problem = "its layout is not strided: it is sparse or of another library; send tensor.to_dense()";
    else if (flags & CORE_TENSOR_GRAD && core_tensor_flag(tensor, t->is_leaf, false, 1) != 1)
        problem = "it is the result of a computation that autograd records, which cannot continue in another process; "
                  "send tensor.detach()";
    else if (!(cpu = PyObject_GetAttr(tensor, t->is_cpu)))
        problem = NULL;
    else if (cpu != Py_True && !(cuda = core_tensor_flag(tensor, t->is_cuda, false, 1) == 1) && !PyErr_Occurred())
        problem = flag_named(tensor, "is_meta") == 1
                      ? "it is on the device \"meta\" and has no data; send (tensor.shape, tensor.dtype)"
                      : "it is neither in the CPU's memory nor on a CUDA GPU; send tensor.cpu()";
    Py_DECREF(layout);
    Py_XDECREF(cpu);
    if (PyErr_Occurred())
        return -1;
    *ret_cuda = cuda;
    return problem ? core_encode_error(path, tensor, problem) : 0;
}

static int refuse_dtype(PyObject *tensor, const core_path *path) {
    int quantised = flag_named(tensor, "is_quantized");
    return quantised < 0 ? -1
                         : core_encode_error(path, tensor,
                                             quantised ? "it is quantised; send tensor.dequantize()"
                                                       : "its dtype is not one of numbers that torch can copy; "
                                                         "send tensor.view(torch.uint8)");
}

/* check_memory: checks that all memory that the tensor claims exists. Returns 0 or -1. */
static int check_memory(core_torch_state *t, PyObject *tensor, const core_tensor_layout *l, bool cuda,
                        const core_path *path) {
    if (l->count == 0)
        return 0;
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, t->untyped_storage);
    PyObject *number = storage ? PyObject_CallMethodNoArgs(storage, t->nbytes) : NULL;
    uint64_t size = number ? PyLong_AsUnsignedLongLong(number) : 0;
    Py_XDECREF(storage);
    Py_XDECREF(number);
    if (!number && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear(); /* NotImplementedError: "Cannot access storage of ..." */
        return core_encode_error(path, tensor,
                                 "it has no memory of its own: torch.func (vmap, grad) wraps another tensor in it; "
                                 "send the function's argument from outside it, or its result");
    }
    if (PyErr_Occurred())
        return -1;
    if (!core_tensor_fits(l, size))
        return core_encode_error(
            path, tensor,
            "its storage has been resized, and has fewer bytes than the tensor needs; send it before "
            "the resize, or resize the storage back");
    if (!cuda && !core_torch_data(t, tensor))
        return PyErr_Occurred()
                   ? -1
                   : core_encode_error(
                         path, tensor,
                         "it has no memory, like a tensor of zeros that torch has not allocated; send tensor.clone()");
    return 0;
}

/* ---- the fast path ---- */

/* shared_before: returns the Shared of a tensor whose storage has been sent before, or NULL. A shared storage does not
 * move, so its address identifies it. A new reference: asking a tensor may run other code, which may drop it. */
static core_shared *shared_before(core_encoder *e, PyObject *tensor, const core_dlpack_tensor *view) {
    core_state *state = e->codec->state;
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, state->torch->untyped_storage);
    core_shared *shared = storage ? core_storage_shared(state, storage) : NULL;
    Py_XDECREF(storage);
    if (shared && (uintptr_t)view->data - (uintptr_t)shared->data >= piso_segment_size(shared->segment))
        Py_CLEAR(shared);
    if (!shared)
        PyErr_Clear(); /* the slow path reports the error */
    return shared;
}

/* write_again: returns what encode_again returns. */
static int write_again(core_encoder *e, PyObject *tensor, core_shared *shared, const core_dlpack_tensor *view,
                       core_tensor_layout *l) {
    core_torch_state *t = e->codec->state->torch;
    int flags = flags_of(t, tensor, l->dtype);
    if (flags < 0 || (flags & CORE_TENSOR_GRAD && core_tensor_flag(tensor, t->is_leaf, false, 1) != 1))
        return PyErr_Occurred() ? -1 : 0;
    l->ndim = view->ndim;
    for (int i = 0; i < view->ndim; i++) {
        l->shape[i] = view->shape[i];
        l->strides[i] = view->strides[i];
        if (l->shape[i] == 0)
            return 0;
    }
    l->offset = ((char *)view->data - (char *)shared->data) / l->dtype->itemsize;
    if (!core_layout_measure(l) || !core_tensor_fits(l, piso_segment_size(shared->segment)))
        return 0; /* the slow path reports why */
    remember(shared, tensor);
    return write_span(e, shared, l, l->offset, flags) < 0 ? -1 : 1;
}

/* encode_again: encodes a tensor whose storage is shared already. Returns 1; 0 where it is not; -1. */
static int encode_again(core_encoder *e, PyObject *tensor) {
    core_dlpack_tensor view;
    core_tensor_layout l;
    l.dtype = core_torch_view(e->codec->state->torch, tensor, &view);
    if (!l.dtype || view.ndim > CORE_TENSOR_DIMS)
        return 0;
    core_shared *shared = shared_before(e, tensor, &view);
    int r = shared ? write_again(e, tensor, shared, &view, &l) : 0;
    Py_XDECREF(shared);
    return r;
}

static const char without_gpus[] = "it is on a GPU, and this build of pyisolate has no support for GPUs (the build "
                                   "option 'gpu'); send tensor.cpu()";

static int encode(core_encoder *e, int Py_UNUSED(kind), PyObject *tensor, const core_path *path) {
    core_torch_state *t = e->codec->state->torch;
    if (e->codec->share_torch && e->codec->session) {
        int again = encode_again(e, tensor);
        if (again != 0)
            return again < 0 ? -1 : 0;
    }
    core_torch_dtype *dtype = core_torch_dtype_of(t, tensor);
    if (!dtype)
        return PyErr_Occurred() ? -1 : refuse_dtype(tensor, path);
    core_tensor_layout l;
    bool cuda;
    int flags = flags_of(t, tensor, dtype);
    if (flags < 0 || refuse(e, tensor, path, flags, &cuda) < 0)
        return -1;
    if (core_tensor_measure(t, tensor, dtype, &l) < 0) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_RuntimeError))
            return -1;
        PyErr_Clear(); /* nested tensors have no shape */
        return core_encode_error(path, tensor, "it is nested; send tensor.unbind()");
    }
    if (check_memory(t, tensor, &l, cuda, path) < 0)
        return -1;
    if (cuda) {
        const core_gpu *gpu = e->codec->state->gpu;
        return gpu ? gpu->encode(e, tensor, &l, flags) : core_encode_error(path, tensor, without_gpus);
    }
    int shared = e->codec->share_torch && l.count && e->codec->session ? write_shared(e, tensor, &l, flags) : 0;
    if (shared != 0)
        return shared < 0 ? -1 : 0;
    return l.dense ? write_bytes(e, tensor, &l, flags) : write_with_gaps(e, tensor, &l, flags);
}

static const core_encoder_entry entry = {.encode = encode, .direct = true};

/* encode_fallback: encodes the first tensor; the tables contain the classes from then on. */
static int encode_fallback(core_encoder *e, PyObject *value, const core_path *path) {
    core_state *state = e->codec->state;
    if (core_torch_load(state, false) <= 0 || !core_torch_is_tensor(state->torch, value))
        return PyErr_Occurred() ? -1 : 0;
    if (core_add_type(state, state->torch->tensor, &entry) < 0 ||
        core_add_type(state, state->torch->parameter, &entry) < 0)
        return -1;
    return encode(e, 0, value, path) < 0 ? -1 : 1;
}

void core_tensors_encode_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode_fallback, .direct = true});
}
