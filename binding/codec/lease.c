/* lease.c - the type Lease: what a received array's `base` is. It keeps the mapping alive by a reference to the
 * session, so an array stays valid after the extension has been stopped. */
#include "lease.h"

typedef struct lease_object {
    PyObject_HEAD piso_session *session;
    piso_span span;
    void *data;
    bool returned; /* the buffer is the peer's again; whoever still finds this object finds memory that is mapped */
} lease_object;

PyObject *core_lease_new(core_state *state, piso_session *session, const piso_span *span, void *data) {
    lease_object *lease = PyObject_New(lease_object, state->lease_type);
    if (!lease) {
        piso_session_release(session, span);
        return NULL;
    }
    lease->session = piso_session_ref(session);
    lease->span = *span;
    lease->data = data;
    lease->returned = false;
    return (PyObject *)lease;
}

int core_lease_return(core_state *state, PyObject *object, piso_session *session, piso_writer *w, const void *data,
                      size_t size) {
    lease_object *lease = (lease_object *)object;
    if (Py_TYPE(object) != state->lease_type || lease->session != session || lease->data != data || lease->returned)
        return -1;
    int index = piso_session_return_span(session, w, &lease->span, size);
    if (index < 0) {
        w->error = 0; /* it is copied instead, or the copy tells what is wrong */
        return -1;
    }
    lease->returned = true;
    return index;
}

static int lease_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    lease_object *lease = (lease_object *)self;
    return PyBuffer_FillInfo(view, self, lease->data, (Py_ssize_t)lease->span.length, 0, flags);
}

static void lease_dealloc(PyObject *self) {
    lease_object *lease = (lease_object *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (!lease->returned)
        piso_session_release(lease->session, &lease->span);
    piso_session_unref(lease->session);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot lease_slots[] = {
    {Py_tp_doc, "A received shared buffer; it goes back to its sender when this object is collected."},
    {Py_bf_getbuffer, lease_getbuffer},
    {Py_tp_dealloc, lease_dealloc},
    {0, NULL},
};
static PyType_Spec lease_spec = {
    .name = "pyisolate._core.Lease",
    .basicsize = sizeof(lease_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

int core_lease_init(PyObject *module, core_state *state) {
    state->lease_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lease_spec, NULL);
    return state->lease_type ? 0 : -1;
}
