/* request.c - the request that the running code handles: calls that the code makes carry its id.
 *
 * For a plain function it is an attribute of the thread, while the function runs. For a coroutine it is a context
 * variable, which follows the code into tasks and, through asyncio.to_thread, into other threads. */
#include <string.h>

#include "request.h"

typedef struct core_request {
    PyObject_HEAD core_session *session;
    uint64_t id;
} core_request;

int core_request_enter(PyObject *context, core_session *s, uint64_t id) {
    core_request *request = PyObject_GC_New(core_request, s->state->request_type);
    if (!request)
        return -1;
    request->session = (core_session *)Py_NewRef((PyObject *)s);
    request->id = id;
    PyObject_GC_Track(request);
    PyObject *token = NULL;
    if (PyContext_Enter(context) == 0) {
        token = PyContextVar_Set(s->state->request_variable, (PyObject *)request);
        PyContext_Exit(context);
    }
    Py_DECREF(request);
    Py_XDECREF(token);
    return token ? 0 : -1;
}

/* current_request: returns the request of the current context: a new reference or NULL, without an exception. */
static core_request *current_request(core_state *state) {
    PyObject *value = NULL;
    if (PyContextVar_Get(state->request_variable, NULL, &value) < 0)
        PyErr_Clear(); /* out of memory */
    return (core_request *)value;
}

uint64_t core_request_current(core_session *s) {
    core_thread *thread = core_thread_existing();
    if (thread && thread->answers)
        return thread->answers->session == s ? thread->answers->id : 0;
    core_request *request = current_request(s->state);
    uint64_t id = request && request->session == s ? request->id : 0;
    Py_XDECREF(request);
    return id;
}

/* session_of: returns the session of the current request: a new reference, or NULL without an exception. */
static PyObject *session_of(core_state *state) {
    core_thread *thread = core_thread_existing();
    if (thread && thread->answers)
        return Py_NewRef((PyObject *)thread->answers->session);
    core_request *request = current_request(state);
    PyObject *session = request ? Py_NewRef((PyObject *)request->session) : NULL;
    Py_XDECREF(request);
    return session;
}

static PyObject *current_session(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    PyObject *session = session_of(core_module_state(module));
    return session ? session : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"current_session", current_session, METH_NOARGS,
     "current_session() -> Session | None\n\nReturn the session whose request is being handled in this context."},
    {NULL, NULL, 0, NULL},
};

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
    {Py_tp_doc, "A request of the peer that is being handled."},
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
    state->request_variable = PyContextVar_New("pyisolate_request", NULL);
    state->request_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &request_spec, NULL);
    return state->request_variable && state->request_type ? PyModule_AddFunctions(module, functions) : -1;
}

/* ---- open requests ---- */

core_open_request *core_open_request_find(core_session *s, uint64_t request) {
    uint32_t index = (uint32_t)request - 1;
    if (request && index >= s->open_capacity) {
        uint32_t capacity = s->open_capacity ? s->open_capacity * 2 : 16;
        while (capacity <= index)
            capacity *= 2;
        core_open_request *open = PyMem_Realloc(s->open, capacity * sizeof *open);
        if (!open)
            return NULL;
        memset(open + s->open_capacity, 0, (capacity - s->open_capacity) * sizeof *open);
        s->open = open;
        s->open_capacity = capacity;
    }
    return request ? &s->open[index] : NULL;
}

void core_request_cancel(core_session *s, uint64_t request) {
    core_open_request *open = core_open_request_find(s, request);
    if (!open)
        return;
    open->cancelled = true;
    if (open->handler)
        s->on->cancel(open->handler);
}
