/* shared.c - see shared.h. */
#include "shared.h"

#include <errno.h>

#include "common/errors.h"

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

int core_shared_set_owner(core_shared *shared, PyObject *storage) {
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
        state->peers->make_room(state);
        r = piso_segment_create(size, &segment);
    }
    if (r == 0)
        return segment;
    if (r == -ENOMEM)
        PyErr_Format(PyExc_MemoryError, "out of memory: %zu bytes of shared memory cannot be allocated", size);
    else
        core_raise(state, r, "allocating shared memory");
    return NULL;
}

/* shared_dealloc: this process no longer uses the memory. The peers that received it drop what they cache for the next
 * send; objects that they use stay valid. */
static void shared_dealloc(PyObject *self) {
    core_shared *shared = (core_shared *)self;
    PyTypeObject *type = Py_TYPE(self);
    void **cell = piso_segment_cell(shared->segment);
    *cell = NULL;
    shared->state->peers->retire(shared->state, shared->segment);
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

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "Memory shared with other processes."},
    {Py_bf_getbuffer, shared_getbuffer},
    {Py_tp_dealloc, shared_dealloc},
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
