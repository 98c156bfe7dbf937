/* shared.c - see shared.h. */
#include "shared.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/errors.h"

core_shared *core_shared_new(core_state *state, piso_segment *segment, PyObject *owner, void *data) {
    PyObject *weak = owner ? PyWeakref_NewRef(owner, NULL) : NULL;
    core_shared *shared = owner && !weak ? NULL : PyObject_New(core_shared, state->shared_type);
    if (!shared) {
        Py_XDECREF(weak);
        piso_segment_unref(segment);
        return NULL;
    }
    shared->state = state;
    shared->segment = segment;
    shared->owner = weak;
    shared->data = data;
    shared->mapped = false;
    shared->recent = NULL;
    shared->before = NULL;
    *piso_segment_cell(segment) = shared;
    return shared;
}

core_shared *core_shared_find(piso_segment *segment) {
    return *piso_segment_cell(segment);
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
    if (*cell == shared)
        *cell = NULL;
    core_sessions_retire(shared->state, shared->segment);
    if (shared->mapped)
        munmap(shared->data, (size_t)piso_segment_size(shared->segment));
    piso_segment_unref(shared->segment);
    Py_XDECREF(shared->owner);
    Py_XDECREF(shared->recent);
    Py_XDECREF(shared->before);
    type->tp_free(self);
    Py_DECREF(type);
}

static int shared_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    core_shared *shared = (core_shared *)self;
    if (!shared->mapped) {
        PyErr_SetString(PyExc_BufferError, "this memory belongs to a tensor");
        view->obj = NULL;
        return -1;
    }
    return PyBuffer_FillInfo(view, self, shared->data, (Py_ssize_t)piso_segment_size(shared->segment), 0, flags);
}

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "Memory that this process shares with others."},
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
