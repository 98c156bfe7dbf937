/* shared.c - see shared.h. */
#include "shared.h"

#include <errno.h>

#include "common/errors.h"
#include "codec/torch/torch.h"

core_shared *core_shared_find(piso_segment *segment) {
    return *piso_segment_cell(segment);
}

int core_shared_write(core_state *state, piso_writer *w, core_shared *shared, const char *what) {
    int index = piso_writer_add_segment(w, shared->segment, 0, piso_segment_size(shared->segment));
    if (index < 0)
        core_raise(state, index, what);
    return index;
}

core_shared *core_shared_map(core_state *state, piso_segment *segment, bool keep_fd) {
    core_shared *known = core_shared_find(segment);
    if (known)
        return (core_shared *)Py_NewRef((PyObject *)known);
    void *data;
    int r = piso_segment_map(segment, keep_fd, &data);
    if (r < 0) {
        core_raise(state, r, "mapping shared memory");
        return NULL;
    }
    core_shared *shared = PyObject_New(core_shared, state->shared_type);
    if (!shared)
        return NULL; /* the segment keeps the mapping */
    shared->state = state;
    shared->segment = piso_segment_ref(segment);
    shared->data = data;
    shared->owner = NULL;
    shared->recent = NULL;
    shared->before = NULL;
    *piso_segment_cell(segment) = shared;
    return shared;
}

int core_shared_own(core_shared *shared, PyObject *storage) {
    PyObject *weak = PyWeakref_NewRef(storage, NULL);
    if (!weak)
        return -1;
    Py_XSETREF(shared->owner, weak);
    return 0;
}

PyObject *core_shared_storage(core_shared *shared) {
    PyObject *storage = shared->owner ? PyObject_CallNoArgs(shared->owner) : NULL;
    if (storage == Py_None)
        Py_CLEAR(storage);
    return storage;
}

piso_segment *core_shared_segment(core_state *state, size_t size) {
    piso_segment *segment = NULL;
    int r;
    Py_BEGIN_ALLOW_THREADS r = piso_segment_create(size, &segment);
    Py_END_ALLOW_THREADS if (r == -ENOMEM || r == -EDQUOT) {
        core_sessions_make_room(state);
        r = piso_segment_create(size, &segment);
    }
    if (r == 0)
        return segment;
    if (r == -ENOMEM)
        PyErr_Format(PyExc_MemoryError, "there is no memory for %zu bytes that are to be shared", size);
    else
        core_raise(state, r, "allocating shared memory");
    return NULL;
}

/* shared_dealloc: nobody here uses the memory any more. The peers that got it from here let go of what they keep for
 * the next time; what their own users hold stays. */
static void shared_dealloc(PyObject *self) {
    core_shared *shared = (core_shared *)self;
    PyTypeObject *type = Py_TYPE(self);
    void **cell = piso_segment_cell(shared->segment);
    *cell = NULL;
    core_sessions_retire(shared->state, shared->segment);
    piso_segment_unmap(shared->segment);
    piso_segment_unref(shared->segment);
    Py_XDECREF(shared->owner);
    Py_XDECREF(shared->recent);
    Py_XDECREF(shared->before);
    type->tp_free(self);
    Py_DECREF(type);
}

static int shared_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    core_shared *shared = (core_shared *)self;
    return PyBuffer_FillInfo(view, self, shared->data, (Py_ssize_t)piso_segment_size(shared->segment), 0, flags);
}

/* moved: the storage that this Shared answers for, a new reference, if its memory is not here any more: torch has moved it,
 * as by share_memory_() where workers share files. NULL without an exception if it is here. */
static PyObject *moved(core_shared *shared) {
    PyObject *storage = core_shared_storage(shared);
    if (storage && core_torch_data(shared->state->torch, storage) == shared->data)
        Py_CLEAR(storage);
    PyErr_Clear(); /* out of memory: torch says what it is */
    return storage;
}

/* ask_torch: what torch's own method says of such a storage, which is let go. */
static PyObject *ask_torch(PyObject *storage, const char *name) {
    PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(storage), name);
    PyObject *answer = method ? PyObject_CallOneArg(method, storage) : NULL;
    Py_XDECREF(method);
    Py_DECREF(storage);
    return answer;
}

static PyObject *shared_is_shared(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *storage = moved((core_shared *)self);
    return storage ? ask_torch(storage, CORE_SHARED_IS_SHARED) : Py_NewRef(Py_True);
}

/* shared_fd: what torch.multiprocessing asks a storage for: its descriptor and its size. */
static PyObject *shared_fd(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *storage = moved((core_shared *)self);
    if (storage)
        return ask_torch(storage, CORE_SHARED_FD);
    piso_segment *segment = ((core_shared *)self)->segment;
    int fd = piso_segment_fd(segment);
    if (fd >= 0)
        return Py_BuildValue("iK", fd, (unsigned long long)piso_segment_size(segment));
    PyErr_SetString(PyExc_OSError, "this tensor came from the host of this process, which has its descriptor: other "
                                   "processes cannot share it; send them tensor.clone()");
    return NULL;
}

static PyMethodDef shared_methods[] = {
    {CORE_SHARED_IS_SHARED, shared_is_shared, METH_NOARGS, NULL},
    {CORE_SHARED_FD, shared_fd, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "Memory that this process shares with others."},
    {Py_bf_getbuffer, shared_getbuffer},
    {Py_tp_dealloc, shared_dealloc},
    {Py_tp_methods, shared_methods},
    {0, NULL},
};
static PyType_Spec shared_spec = {
    .name = "pyisolate._core.Shared",
    .basicsize = sizeof(core_shared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = shared_slots,
};

int core_shared_init(PyObject *module, core_state *state) {
    state->shared_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shared_spec, NULL);
    return state->shared_type ? 0 : -1;
}
