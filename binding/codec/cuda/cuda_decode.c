/* cuda_decode.c - decodes tensors on a GPU (cuda_encode.c): copied to the device of this process that has the UUID, or
 * over the sender's memory on that device. The memory is opened once for all storages in it. It is released with the
 * last tensor of a storage, after the device has done the work that this process has queued.
 *
 * Waiting for the device would end a capture into a graph. Memory that is dropped during a capture is released after
 * it. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "codec/decode.h"
#include "cuda.h"

/* device_of: returns the torch.device with a UUID, or NULL with an error that says what is missing. */
static PyObject *device_of(core_decoder *d, const piso_item *uuid) {
    PyObject *hook = d->codec->state->cuda->device;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)uuid->as.bytes.data, CORE_UUID_SIZE);
    PyObject *device = bytes && hook ? PyObject_CallOneArg(hook, bytes) : NULL;
    Py_XDECREF(bytes);
    if (!device && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "the device hooks are not set in this process");
    return device;
}

/* call_on: calls torch.<name>(*args, dtype=..., device=...); steals args. */
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

/* blank: returns an empty tensor on a device. The first is cached, to create others from; not one of
 * torch.inference_mode, which cannot be used outside of it. */
static PyObject *blank(core_torch_state *t, PyObject *dtype, PyObject *device) {
    PyObject *key = PyTuple_Pack(2, dtype, device), *inference = NULL;
    PyObject *kept = key ? PyDict_GetItemWithError(t->blanks, key) : NULL, *tensor = NULL;
    if (kept)
        tensor = core_torch_fresh(t, kept);
    else if (key && !PyErr_Occurred())
        tensor = call_on(t, "empty", Py_BuildValue("(i)", 0), dtype, device);
    if (tensor && !kept && (inference = PyObject_CallMethod(tensor, "is_inference", NULL)) == Py_False &&
        PyDict_SetItem(t->blanks, key, tensor) == 0)
        Py_SETREF(tensor, core_torch_fresh(t, tensor));
    if (PyErr_Occurred())
        Py_CLEAR(tensor);
    Py_XDECREF(inference);
    Py_XDECREF(key);
    return tensor;
}

/* over: returns a tensor over a storage on a device. */
static PyObject *over(core_torch_state *t, PyObject *storage, const core_tensor_layout *l, PyObject *device) {
    core_tensor_numbers n;
    PyObject *tensor = core_tensor_numbers_new(l, &n) == 0 ? blank(t, l->dtype->object, device) : NULL;
    PyObject *result = NULL;
    if (tensor) {
        PyObject *args[] = {tensor, storage, n.offset, n.shape, n.strides};
        result = PyObject_VectorcallMethod(t->set, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    if (!result)
        Py_CLEAR(tensor);
    Py_XDECREF(result);
    core_tensor_numbers_clear(&n);
    return tensor;
}

/* empty: returns a tensor without elements. */
static PyObject *empty(core_torch_state *t, const core_tensor_layout *l, PyObject *device) {
    core_tensor_numbers n;
    PyObject *args = core_tensor_numbers_new(l, &n) == 0 ? PyTuple_Pack(2, n.shape, n.strides) : NULL;
    core_tensor_numbers_clear(&n);
    return call_on(t, "empty_strided", args, l->dtype->object, device);
}

static PyObject *from_copy(core_decoder *d, piso_reader *r, const core_tensor_layout *l, PyObject *device) {
    core_torch_state *t = d->codec->state->torch;
    size_t size;
    PyObject *owner = core_decode_data(d, r, &size), *tensor = NULL;
    if (owner && !core_tensor_fits(l, size)) {
        core_malformed(d, "a tensor that is larger than its bytes");
    } else if (owner && !core_tensor_charge(d, l, size)) {
        tensor = NULL;
    } else if (owner && l->count == 0) {
        tensor = empty(t, l, device);
    } else if (owner) {
        PyObject *storage = core_torch_buffer(t, owner, device);
        tensor = storage ? over(t, storage, l, device) : NULL;
        Py_XDECREF(storage);
    }
    Py_XDECREF(owner);
    return tensor;
}

/* ---- shared ---- */

/* held: the peer's memory that backs a storage of this process. Released by whatever frees the storage, in any thread,
 * with or without the GIL. */
typedef struct held {
    core_dlpack_managed managed; /* first: the storage refers to it */
    int64_t length;
    core_torch_state *torch;
    piso_session *session;
    uint64_t lease;
    int device;
    void *base; /* of the allocation, which must be closed; NULL: none */
    struct held *next;
} held;

/* Dropped while a graph was captured. Without a lock, which a forked process could find locked. */
static _Atomic(held *) delayed;

/* release_held: ends the lease and frees the entry. */
static void release_held(held *h) {
    if (h->base) {
        piso_cuda_synchronize(h->device); /* the peer may reuse the memory at once */
        piso_cuda_close(h->device, h->base);
    }
    piso_session_end_lease(h->session, h->lease);
    piso_session_flush(h->session);
    piso_session_unref(h->session);
    PyMem_RawFree(h);
}

/* is_finalizing: returns whether the interpreter is shutting down; torch may be gone then. */
static bool is_finalizing(void) {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* is_captured: returns whether the stream that this thread uses is being captured. Asking torch needs the GIL, which
 * autograd's threads may not hold; they are not captured while they drop memory. */
static bool is_captured(core_torch_state *t, int device) {
    void *stream;
    bool captured = false;
    if (!Py_IsInitialized() || is_finalizing() || !PyGILState_Check())
        return false;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (core_torch_stream(t, device, &stream) == 0)
        captured = piso_cuda_captured(device, stream) == 1;
    PyErr_Clear(); /* torch is shutting down: then nothing is captured */
    PyErr_Restore(type, value, traceback);
    return captured;
}

/* release_delayed: releases memory that was dropped during a capture that is over. */
static void release_delayed(void) {
    held *h = atomic_exchange_explicit(&delayed, NULL, memory_order_acq_rel), *next;
    for (; h; h = next) {
        next = h->next;
        release_held(h);
    }
}

static void held_free(held *h) {
    if (h->base && is_captured(h->torch, h->device)) {
        /* release: whoever takes the list sees `next`; relaxed: a stale head only repeats the exchange */
        h->next = atomic_load_explicit(&delayed, memory_order_relaxed);
        while (
            !atomic_compare_exchange_weak_explicit(&delayed, &h->next, h, memory_order_release, memory_order_relaxed))
            ;
        return;
    }
    release_delayed();
    release_held(h);
}

static void held_deleter(core_dlpack_managed *managed) {
    held_free((held *)(void *)managed);
}

/* capsule_dealloc: called with the tensor if nobody has taken it out of the capsule. */
static void capsule_dealloc(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor"))
        held_deleter(PyCapsule_GetPointer(capsule, "dltensor"));
}

/* take_lease: takes the lease that represents the data. NULL with an exception. */
static held *take_lease(core_decoder *d, piso_reader *r) {
    piso_item data, index;
    piso_reader inner;
    if (core_read(d, r, PISO_EXT, &data) < 0)
        return NULL;
    inner = (piso_reader){data.as.bytes.data, data.as.bytes.data + data.as.bytes.size};
    if (core_read(d, &inner, PISO_INT, &index) < 0)
        return NULL;
    bool named = data.ext_type == PISO_EXT_BUFFER && d->event && d->codec->session && index.as.integer >= 0 &&
                 index.as.integer < d->event->nspans;
    uint64_t lease = named ? piso_event_take_lease(d->event, (uint32_t)index.as.integer) : 0;
    if (!lease)
        return core_malformed(d, "memory of a GPU without a lease");
    held *h = PyMem_RawCalloc(1, sizeof *h);
    if (!h) {
        piso_session_end_lease(d->codec->session, lease);
        PyErr_NoMemory();
        return NULL;
    }
    h->torch = d->codec->state->torch;
    h->session = piso_session_ref(d->codec->session);
    h->lease = lease;
    return h;
}

/* The part of a message that describes where the memory is. */
typedef struct place {
    int device;
    uint8_t handle[PISO_CUDA_HANDLE], event[PISO_CUDA_HANDLE];
    bool has_event;
    uint64_t offset, size;
} place;

/* read_handle: returns 1, 0 if it is nil, or -1. */
static int read_handle(core_decoder *d, piso_reader *r, uint8_t ret_handle[PISO_CUDA_HANDLE]) {
    piso_item item;
    int read = piso_read(r, &item);
    if (read == 1 && item.kind == PISO_NIL)
        return 0;
    if (read != 1 || item.kind != PISO_BIN || item.as.bytes.size != PISO_CUDA_HANDLE) {
        core_malformed(d, "a handle of the wrong size");
        return -1;
    }
    memcpy(ret_handle, item.as.bytes.data, PISO_CUDA_HANDLE);
    return 1;
}

static int read_place(core_decoder *d, piso_reader *r, place *ret) {
    piso_item offset, size;
    int handle = read_handle(d, r, ret->handle), event = handle < 0 ? -1 : read_handle(d, r, ret->event);
    if (event < 0 || core_read(d, r, PISO_INT, &offset) < 0 || core_read(d, r, PISO_INT, &size) < 0)
        return -1;
    ret->has_event = event;
    if (handle == 0 || offset.as.integer < 0 || size.as.integer <= 0) {
        core_malformed(d, "memory of a GPU of an impossible size");
        return -1;
    }
    ret->offset = (uint64_t)offset.as.integer;
    ret->size = (uint64_t)size.as.integer;
    return 0;
}

/* wrap: returns a storage over memory that `h` holds; steals `h`. */
static PyObject *wrap(core_state *state, held *h, void *data, uint64_t size) {
    h->length = (int64_t)size;
    h->managed = (core_dlpack_managed){
        .tensor = {.data = data,
                   .device = {.type = CORE_DLPACK_CUDA, .id = h->device},
                   .ndim = 1,
                   .dtype = {.code = 1, .bits = 8, .lanes = 1},
                   .shape = &h->length},
        .deleter = held_deleter,
    };
    PyObject *capsule = PyCapsule_New(&h->managed, "dltensor", capsule_dealloc), *flat = NULL, *storage = NULL;
    if (!capsule) {
        held_free(h);
        return NULL;
    }
    core_torch_state *t = state->torch;
    PyObject *utils = t->from_dlpack ? NULL : PyImport_ImportModule("torch.utils.dlpack");
    if (utils)
        t->from_dlpack = PyObject_GetAttrString(utils, "from_dlpack");
    if (t->from_dlpack)
        flat = PyObject_CallOneArg(t->from_dlpack, capsule);
    if (flat)
        storage = PyObject_CallMethodNoArgs(flat, t->untyped_storage);
    Py_XDECREF(utils);
    Py_XDECREF(flat);
    Py_DECREF(capsule);
    if (storage && core_cuda_remember(state, storage, data) < 0)
        Py_CLEAR(storage);
    return storage;
}

#define NOT_OPENED "the memory of a tensor on a GPU could not be opened"

/* refuse: raises an error that says why memory, or an event, cannot be used here. Unless that may change, it requests
 * copies from the sender from now on. */
static void refuse(core_decoder *d, int error, const char *what) {
    core_state *state = d->codec->state;
    bool may_change = error == -ENOMEM || error == -EAGAIN || error == -ENOTRECOVERABLE;
    if (!may_change && state->cuda->refuse && d->codec->owner) {
        PyObject *done = PyObject_CallFunction(state->cuda->refuse, "Os", d->codec->owner, piso_cuda_failure());
        if (!done)
            PyErr_Clear(); /* the reason below is raised; the next tensor fails likewise */
        Py_XDECREF(done);
    }
    core_cuda_raise(state, error, what);
}

/* wait: makes the stream wait for the event. For another thread, which may use another stream, this thread waits.
 * Returns 0 or a negative code. */
static int wait(int device, void *stream, const uint8_t event[PISO_CUDA_HANDLE]) {
    int r = piso_cuda_wait(device, stream, event);
    if (r == 0 && core_decodes_for_other_thread() && piso_cuda_captured(device, stream) == 0) {
        Py_BEGIN_ALLOW_THREADS r = piso_cuda_drain(device, stream);
        Py_END_ALLOW_THREADS
    }
    return r;
}

/* wait_for: makes the current stream wait until the sender's stream has written the data. Returns 0 or -1. */
static int wait_for(core_decoder *d, const place *p) {
    core_torch_state *t = d->codec->state->torch;
    PyObject *cuda = t->cuda_ready ? NULL : PyObject_GetAttrString(t->module, "cuda");
    PyObject *ready = cuda ? PyObject_CallMethod(cuda, "init", NULL) : NULL; /* if this is the first tensor here */
    void *stream;
    t->cuda_ready |= ready != NULL;
    Py_XDECREF(cuda);
    Py_XDECREF(ready);
    int r = !t->cuda_ready ? -1 : p->has_event ? core_torch_stream(t, p->device, &stream) : 0;
    if (r == 0 && p->has_event && (r = wait(p->device, stream, p->event)) < 0) {
        refuse(d, r, "the event of the sender of a tensor on a GPU could not be waited for");
        r = -1;
    }
    return r;
}

/* storage_at: returns the received storage; steals the lease in `h`. */
static PyObject *storage_at(core_decoder *d, const place *p, held *h, const core_tensor_layout *l) {
    core_state *state = d->codec->state;
    uint64_t size;
    void *base;
    PyObject *storage = NULL;
    h->device = p->device;
    int own = wait_for(d, p) < 0 ? -1 : piso_cuda_open(p->device, p->handle, d->codec->session, &base, &size);
    if (own == 0)
        h->base = base;
    if (own < 0) {
        if (!PyErr_Occurred())
            refuse(d, own, NOT_OPENED);
    } else if (p->offset > size || p->size > size - p->offset || !core_tensor_fits(l, p->size)) {
        core_malformed(d, "a tensor that is larger than its memory");
    } else if (core_tensor_charge(d, l, p->size)) {
        void *data = (char *)base + p->offset;
        storage = core_cuda_recall(state, data, p->size);
        if (!storage && !PyErr_Occurred() && own == 0)
            return wrap(state, h, data, p->size);
        if (!storage && !PyErr_Occurred())
            core_malformed(d, "memory of a GPU that was not sent from here");
    }
    if (storage)
        d->codec->gpu.recalled |= UINT64_C(1) << p->device;
    if (storage && h->base) { /* it is held already, so there is nothing to wait for */
        piso_cuda_close(h->device, h->base);
        h->base = NULL;
    }
    held_free(h);
    return storage;
}

static PyObject *from_memory(core_decoder *d, piso_reader *r, const core_tensor_layout *l, place *p) {
    held *h = take_lease(d, r);
    PyObject *storage = h ? storage_at(d, p, h, l) : NULL;
    PyObject *device =
        storage ? PyObject_CallMethod(d->codec->state->torch->module, "device", "si", "cuda", p->device) : NULL;
    PyObject *tensor = device ? over(d->codec->state->torch, storage, l, device) : NULL;
    Py_XDECREF(storage);
    Py_XDECREF(device);
    return tensor;
}

/* ---- both ---- */

/* from_parts: decodes `inner`, the tensor. */
static PyObject *from_parts(core_decoder *d, const piso_item *uuid, place *place, const piso_item *inner) {
    piso_reader r;
    core_tensor_head h = {.flags = 0};
    PyObject *device = NULL, *tensor = NULL;
    if (core_read_array(d, inner, 7, &r) == 0 && (place || (device = device_of(d, uuid))) &&
        core_tensor_read_head(d, &r, &h) == 0)
        tensor = place ? from_memory(d, &r, &h.layout, place) : from_copy(d, &r, &h.layout, device);
    Py_XDECREF(device);
    tensor = tensor ? core_check_payload_end(d, &r, tensor) : NULL;
    return core_tensor_finish(d->codec->state->torch, tensor, h.flags);
}

/* find_device: finds the device of shared memory. Returns 0 or -1. */
static int find_device(core_decoder *d, const piso_item *uuid, place *p) {
    if (!d->codec->gpu.devices) {
        core_malformed(d, "memory of a GPU, which this session does not share");
        return -1;
    }
    p->device = piso_cuda_find(uuid->as.bytes.data);
    if (p->device < 0)
        core_cuda_raise(d->codec->state, p->device, NOT_OPENED);
    return p->device < 0 ? -1 : 0;
}

PyObject *core_cuda_decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    piso_item uuid, memory, inner;
    place place;
    if (core_read_array(d, ext, 3, &r) < 0 || core_read(d, &r, PISO_BIN, &uuid) < 0)
        return NULL;
    if (uuid.as.bytes.size != CORE_UUID_SIZE || piso_read(&r, &memory) != 1 ||
        (memory.kind != PISO_NIL && (memory.kind != PISO_ARRAY || memory.as.count != 4)))
        return core_malformed(d, "a tensor of an impossible device");
    bool shared = memory.kind == PISO_ARRAY;
    if ((shared && read_place(d, &r, &place) < 0) || core_read(d, &r, PISO_EXT, &inner) < 0)
        return NULL;
    if (inner.ext_type != PISO_EXT_TENSOR || r.cursor != r.end)
        return core_malformed(d, "a tensor on a GPU that is not a tensor");
    if (core_torch_needed(d) < 0 || (shared && find_device(d, &uuid, &place) < 0))
        return NULL;
    return from_parts(d, &uuid, shared ? &place : NULL, &inner);
}
