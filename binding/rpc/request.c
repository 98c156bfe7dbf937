/* request.c - which request running code belongs to: calls that are made in it carry its id.
 *
 * Of a plain function it is known by the thread, as long as the function runs. Of a coroutine it is a context variable,
 * which follows the code into tasks and, by asyncio.to_thread, into other threads. */
#include "aio/asyncio.h"
#include "session.h"

typedef struct core_request {
    PyObject_HEAD core_session *session;
    uint64_t id;
} core_request;

int core_request_mark(PyObject *context, core_session *s, uint64_t id) {
    core_async_state *a = s->state->async;
    core_request *request = PyObject_GC_New(core_request, a->request_type);
    if (!request)
        return -1;
    request->session = (core_session *)Py_NewRef((PyObject *)s);
    request->id = id;
    PyObject_GC_Track(request);
    PyObject *token = NULL;
    if (PyContext_Enter(context) == 0) {
        token = PyContextVar_Set(a->request_variable, (PyObject *)request);
        PyContext_Exit(context);
    }
    Py_DECREF(request);
    Py_XDECREF(token);
    return token ? 0 : -1;
}

/* marked: of the current context: a new reference or NULL, without an exception. */
static core_request *marked(core_async_state *a) {
    PyObject *value = NULL;
    if (PyContextVar_Get(a->request_variable, NULL, &value) < 0)
        PyErr_Clear(); /* out of memory */
    return (core_request *)value;
}

uint64_t core_request_current(core_session *s) {
    core_thread *thread = core_thread_known();
    if (thread && thread->answers)
        return thread->answers->session == s ? thread->answers->id : 0;
    core_request *request = marked(s->state->async);
    uint64_t id = request && request->session == s ? request->id : 0;
    Py_XDECREF(request);
    return id;
}

PyObject *core_request_session(core_state *state) {
    core_thread *thread = core_thread_known();
    if (thread && thread->answers)
        return Py_NewRef((PyObject *)thread->answers->session);
    core_request *request = marked(state->async);
    PyObject *session = request ? Py_NewRef((PyObject *)request->session) : NULL;
    Py_XDECREF(request);
    return session;
}

static int request_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((core_request *)self)->session);
    return 0;
}

static void request_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(((core_request *)self)->session);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot request_slots[] = {
    {Py_tp_doc, "A request of the other side that code runs for."},
    {Py_tp_traverse, request_traverse},
    {Py_tp_dealloc, request_dealloc},
    {0, NULL},
};
static PyType_Spec request_spec = {
    .name = "pyisolate._core.Request",
    .basicsize = sizeof(core_request),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = request_slots,
};

int core_request_init(PyObject *module, core_state *state) {
    state->async->request_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &request_spec, NULL);
    return state->async->request_type ? 0 : -1;
}
