/* cuda_encode.c - encodes tensors on a GPU: [UUID of the device, memory, tensor].
 *
 * Devices are identified by their UUID, because a device may have another id in the other process. Where the memory can
 * be shared, `memory` is [handle, event, offset, size]: the place of the storage in the allocation of the handle. The
 * receiver's stream waits for the event, which is nil when the device has written all. The tensor's data is then a
 * lease: this process keeps the storage until the receiver has released it. Otherwise `memory` is nil, and a copy of
 * the tensor in the CPU's memory follows.
 *
 * After that the receiver may keep the allocation mapped for the next send, as long as a storage that was sent from it
 * lives here. When a storage is sent for the first time, pyisolate/_rpc/gpus.py is asked to report its end. */
#include <errno.h>

#include "cuda.h"

/* ---- memory that the peer holds ---- */

static void release(void *leased);

typedef struct core_lent {
    core_leased leased; /* first */
    struct core_lent *next, **previous;
    PyObject *object;
} core_lent;

static core_lent *lend(core_codec *c, PyObject *object) {
    core_lent *lent = PyMem_Malloc(sizeof *lent);
    if (!lent) {
        PyErr_NoMemory();
        return NULL;
    }
    *lent =
        (core_lent){.leased = {release}, .next = c->gpu.lent, .previous = &c->gpu.lent, .object = Py_NewRef(object)};
    if (c->gpu.lent)
        c->gpu.lent->previous = &lent->next;
    c->gpu.lent = lent;
    return lent;
}

static void release(void *leased) {
    core_lent *lent = leased;
    PyObject *object = lent->object;
    *lent->previous = lent->next;
    if (lent->next)
        lent->next->previous = lent->previous;
    PyMem_Free(lent);
    Py_DECREF(object);
}

void core_cuda_clear(core_codec *c) {
    while (c->gpu.lent)
        release(c->gpu.lent);
    core_cuda_session_ended(c);
}

void core_cuda_session_ended(core_codec *c) {
    if (c->gpu.mapped)
        PyDict_Clear(c->gpu.mapped); /* the finalizers of storages refer to it */
    Py_CLEAR(c->gpu.mapped);
    piso_cuda_release(c->session, NULL);
}

/* note_lent: records that the peer may keep the memory mapped. Returns 0 or -1. */
static int note_lent(core_codec *c, PyObject *storage, const void *data, const uint8_t handle[PISO_CUDA_HANDLE]) {
    PyObject *hook = c->state->cuda->lend;
    if (!hook || (!c->gpu.mapped && !(c->gpu.mapped = PyDict_New())))
        return hook ? -1 : 0;
    PyObject *address = PyLong_FromVoidPtr((void *)data);
    int known = address ? PyDict_Contains(c->gpu.mapped, address) : -1;
    if (known == 0) {
        PyObject *done = PyObject_CallFunction(hook, "OOOOy#", c->owner, c->gpu.mapped, storage, address,
                                               (const char *)handle, (Py_ssize_t)PISO_CUDA_HANDLE);
        known = done ? 0 : -1;
        Py_XDECREF(done);
    }
    Py_XDECREF(address);
    return known < 0 ? -1 : 0;
}

/* ---- shared ---- */

/* warn: warns, once for each session, that memory is copied which should be shared. Returns 0, or -1 when warnings are
 * errors. */
static int warn(core_codec *c, const char *who, const char *why) {
    if (c->gpu.warned)
        return 0;
    c->gpu.warned = true;
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                            "share_cuda_ipc: the memory of a tensor on a GPU cannot be %s: %s; such tensors are copied "
                            "through the CPU's memory",
                            who, why);
}

static int warn_of(core_codec *c, int error) {
    return warn(c, "shared",
                error == -ENOTSUP
                    ? "its allocator takes memory that has no IPC handle (expandable_segments or cudaMallocAsync "
                      "in PYTORCH_CUDA_ALLOC_CONF)"
                    : piso_cuda_failure());
}

int core_cuda_refused(core_codec *c, const char *why) {
    if (!c->gpu.devices || PySet_GET_SIZE(c->gpu.devices) == 0)
        return 0;
    PyObject *none = PyFrozenSet_New(NULL); /* memory that the peer sends is accepted as before */
    if (!none)
        return -1;
    Py_SETREF(c->gpu.devices, none);
    return warn(c, "opened by the peer", why);
}

/* A storage that can be shared. */
typedef struct shared_storage {
    piso_cuda_memory memory;
    uint8_t uuid[PISO_CUDA_UUID], event[PISO_CUDA_HANDLE];
    bool has_event;
    uint64_t size;
} shared_storage;

/* order: records an event for the receiver to wait for; waits itself where that is impossible. Returns 0, or a negative
 * code; PyErr_Occurred distinguishes -1 with an exception. */
static int order(core_codec *c, int device, shared_storage *ret) {
    void *stream;
    if (core_torch_stream(c->state->torch, device, &stream) < 0)
        return -1;
    int r = piso_cuda_record(device, stream, c->gpu.events, ret->event);
    if (r == -EINPROGRESS) {
        Py_BEGIN_ALLOW_THREADS r = piso_cuda_drain(device, stream);
        Py_END_ALLOW_THREADS
    }
    ret->has_event = r > 0;
    return r < 0 ? r : 0;
}

/* agreed: returns whether both processes see the device: 1, 0, -1. */
static int agreed(core_codec *c, int device, uint8_t ret_uuid[PISO_CUDA_UUID]) {
    if (piso_cuda_uuid(device, ret_uuid) < 0)
        return 0;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)ret_uuid, PISO_CUDA_UUID);
    int r = bytes ? PySet_Contains(c->gpu.devices, bytes) : -1;
    Py_XDECREF(bytes);
    return r;
}

/* prepare: gets handle and event of a storage. Returns 1; 0 when it must be copied instead; -1. */
static int prepare(core_encoder *e, PyObject *tensor, PyObject *storage, shared_storage *ret) {
    core_torch_state *t = e->codec->state->torch;
    PyObject *number = PyObject_CallMethod(tensor, "get_device", NULL);
    int device = number ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    number = PyErr_Occurred() ? NULL : PyObject_CallMethodNoArgs(storage, t->nbytes);
    ret->size = number ? PyLong_AsUnsignedLongLong(number) : 0;
    Py_XDECREF(number);
    const void *data = PyErr_Occurred() ? NULL : core_torch_data(t, storage);
    if (PyErr_Occurred())
        return -1;
    int r = agreed(e->codec, device, ret->uuid);
    if (r <= 0)
        return r;
    r = piso_cuda_export(device, data, &ret->memory);
    if (r == 0 && (ret->memory.offset > ret->memory.size || ret->size > ret->memory.size - ret->memory.offset))
        r = -ENOTSUP;
    if (r == 0)
        r = order(e->codec, device, ret);
    if (r == -EAGAIN || r == -ENOTRECOVERABLE)
        core_cuda_raise(e->codec->state, r, "a tensor on a GPU could not be sent");
    if (r < 0)
        return PyErr_Occurred() ? -1 : warn_of(e->codec, r);
    if (note_lent(e->codec, storage, data, ret->memory.handle) < 0)
        return -1;
    return core_cuda_remember(e->codec->state, storage, data) < 0 ? -1 : 1;
}

void core_cuda_synchronize(core_codec *c) {
    for (int device = 0; device < 64; device++) {
        void *stream;
        if (!(c->gpu.recalled >> device & 1))
            continue;
        if (core_torch_stream(c->state->torch, device, &stream) < 0)
            PyErr_Clear(); /* torch no longer has a GPU: there is nothing to wait for */
        else if (piso_cuda_record(device, stream, false, NULL) == -EINPROGRESS) {
            Py_BEGIN_ALLOW_THREADS piso_cuda_drain(device, stream);
            Py_END_ALLOW_THREADS
        }
    }
}

static int write_storage(core_encoder *e, PyObject *storage, const shared_storage *s, const core_tensor_layout *l,
                         int flags) {
    core_lent *lent = lend(e->codec, storage);
    int index = lent ? piso_session_lease(e->codec->session, e->w, lent) : -1;
    if (index < 0) {
        if (lent) {
            release(lent);
            core_raise(e->codec->state, index, "sending a tensor on a GPU");
        }
        return -1;
    }
    e->codec->gpu.sends++;
    piso_write_bin(e->w, s->uuid, sizeof s->uuid);
    piso_write_array(e->w, 4);
    piso_write_bin(e->w, s->memory.handle, sizeof s->memory.handle);
    if (s->has_event)
        piso_write_bin(e->w, s->event, sizeof s->event);
    else
        piso_write_nil(e->w);
    piso_write_uint(e->w, s->memory.offset);
    piso_write_uint(e->w, s->size);
    core_tensor_write_span(e->w, l, l->offset, flags, index);
    return 0;
}

/* write_shared: returns 1; 0 when it must be copied instead; -1. */
static int write_shared(core_encoder *e, PyObject *tensor, const core_tensor_layout *l, int flags) {
    shared_storage s;
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, e->codec->state->torch->untyped_storage);
    int r = storage ? prepare(e, tensor, storage, &s) : -1;
    if (r > 0 && write_storage(e, storage, &s, l, flags) < 0)
        r = -1;
    Py_XDECREF(storage);
    return r;
}

/* ---- copied ---- */

/* write_uuid: writes the UUID of the tensor's device. Returns 0 or -1. */
static int write_uuid(core_encoder *e, PyObject *tensor) {
    PyObject *index = PyObject_CallMethod(tensor, "get_device", NULL), *hook = e->codec->state->cuda->uuid;
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

/* to_cpu: copies the memory of a plain tensor, from its first element to its last, into a new tensor. Waits for the
 * device. */
static PyObject *to_cpu(PyObject *raw, const core_tensor_layout *l) {
    PyObject *flat = PyObject_CallMethod(raw, "as_strided", "(L)(i)", (long long)l->extent, 1);
    PyObject *copy = flat ? PyObject_CallMethod(flat, "cpu", NULL) : NULL;
    Py_XDECREF(flat);
    return copy;
}

static int write_copied(core_encoder *e, PyObject *tensor, core_tensor_layout *l, int flags) {
    core_torch_state *t = e->codec->state->torch;
    PyObject *raw = l->dense ? core_tensor_plain(t, tensor, flags) : core_tensor_compact(t, tensor, l, flags);
    PyObject *copy = raw ? to_cpu(raw, l) : NULL;
    Py_XDECREF(raw);
    const void *data = copy && l->count ? core_torch_data(t, copy) : NULL;
    int r = -1;
    if (copy && !PyErr_Occurred()) {
        piso_write_nil(e->w);
        size_t mark = piso_write_ext_begin(e->w, PISO_EXT_TENSOR);
        core_tensor_write_head(e->w, l, 0, flags);
        r = core_encode_data(e, data, (size_t)l->extent * (size_t)l->dtype->itemsize);
        piso_write_ext_end(e->w, mark);
    }
    Py_XDECREF(copy);
    return r;
}

int core_cuda_encode(core_encoder *e, PyObject *tensor, core_tensor_layout *l, int flags) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_CUDA_TENSOR);
    piso_write_array(e->w, 3);
    int r = e->codec->gpu.devices && e->codec->session && l->count ? write_shared(e, tensor, l, flags) : 0;
    if (r == 0 && (r = write_uuid(e, tensor)) == 0)
        r = write_copied(e, tensor, l, flags);
    piso_write_ext_end(e->w, mark);
    return r < 0 ? -1 : 0;
}
