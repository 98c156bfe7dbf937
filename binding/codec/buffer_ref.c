/* buffer_ref.c - the type BufferRef, the `base` of a received array. It keeps the mapping alive with a reference to the
 * session, so an array stays valid after the extension has been stopped. */
#include "buffer_ref.h"

typedef struct buffer_ref {
    PyObject_HEAD piso_session *session;
    piso_span span;
    void *data;
    bool returned; /* the buffer is the peer's again; this object's memory is still mapped */
} buffer_ref;

PyObject *core_buffer_ref_new(core_state *state, piso_session *session, const piso_span *span, void *data) {
    buffer_ref *ref = PyObject_New(buffer_ref, state->buffer_ref_type);
    if (!ref) {
        piso_session_release(session, span);
        return NULL;
    }
    ref->session = piso_session_ref(session);
    ref->span = *span;
    ref->data = data;
    ref->returned = false;
    return (PyObject *)ref;
}

int core_buffer_ref_return(core_state *state, PyObject *object, piso_session *session, piso_writer *w, const void *data,
                           size_t size) {
    buffer_ref *ref = (buffer_ref *)object;
    if (Py_TYPE(object) != state->buffer_ref_type || ref->session != session || ref->data != data || ref->returned)
        return -1;
    int index = piso_session_return_span(session, w, &ref->span, size);
    if (index < 0) {
        w->error = 0; /* it is copied instead, or the copy reports the error */
        return -1;
    }
    ref->returned = true;
    return index;
}

static int buffer_ref_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    buffer_ref *ref = (buffer_ref *)self;
    return PyBuffer_FillInfo(view, self, ref->data, (Py_ssize_t)ref->span.length, 0, flags);
}

static void buffer_ref_dealloc(PyObject *self) {
    buffer_ref *ref = (buffer_ref *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (!ref->returned)
        piso_session_release(ref->session, &ref->span);
    piso_session_unref(ref->session);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot buffer_ref_slots[] = {
    {Py_tp_doc,
     "A reference to a received shared buffer, which is released to its sender when this object is deallocated."},
    {Py_bf_getbuffer, buffer_ref_getbuffer},
    {Py_tp_dealloc, buffer_ref_dealloc},
    {0, NULL},
};
static PyType_Spec buffer_ref_spec = {
    .name = "pyisolate._core.BufferRef",
    .basicsize = sizeof(buffer_ref),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_ref_slots,
};

int core_buffer_ref_init(PyObject *module, core_state *state) {
    state->buffer_ref_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &buffer_ref_spec, NULL);
    return state->buffer_ref_type ? 0 : -1;
}
