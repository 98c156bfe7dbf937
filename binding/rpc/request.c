/* request.c - the request that the running code handles: calls that the code makes carry its id.
 *
 * For a plain function it is an attribute of the thread, while the function runs. For a coroutine it is a context
 * variable, which follows the code into tasks and, through asyncio.to_thread, into other threads. */
#include <string.h>

#include "request.h"

typedef struct core_request {
    PyObject_HEAD core_session *session;
    uint64_t id;         /* 0: it expects no reply */
    PyObject *origin;    /* a Request, or NULL */
    int64_t deadline_ns; /* the earliest of its own and those of its origins */
    bool answered;
    bool given_up; /* before it was answered */
} core_request;

int64_t core_request_deadline(PyObject *request) {
    return request ? ((core_request *)request)->deadline_ns : PISO_NO_DEADLINE;
}

PyObject *core_request_new(core_session *s, uint64_t id, PyObject *origin, int64_t deadline_ns) {
    int64_t outer_ns = core_request_deadline(origin);
    core_request *request = PyObject_GC_New(core_request, s->state->request_type);
    if (!request)
        return NULL;
    request->session = (core_session *)Py_NewRef((PyObject *)s);
    request->id = id;
    request->origin = Py_XNewRef(origin);
    request->deadline_ns = outer_ns < deadline_ns ? outer_ns : deadline_ns;
    request->answered = request->given_up = false;
    core_open_request *open = core_open_request_find(s, id);
    if (open)
        open->request = (PyObject *)request;
    PyObject_GC_Track(request);
    return (PyObject *)request;
}

int core_request_enter(PyObject *context, PyObject *request) {
    core_state *state = core_type_state(Py_TYPE(request));
    PyObject *token = NULL;
    if (PyContext_Enter(context) == 0) {
        token = PyContextVar_Set(state->request_variable, request);
        PyContext_Exit(context);
    }
    Py_XDECREF(token);
    return token ? 0 : -1;
}

/* of_answer: returns the request that a plain function of this thread handles: a new reference, or NULL without an
 * exception. */
static PyObject *of_answer(core_answer *answer) {
    if (!answer->request)
        answer->request = core_request_new(answer->session, answer->id, answer->origin, answer->deadline_ns);
    if (!answer->request)
        PyErr_Clear(); /* out of memory: the peer's thread that waits is not found */
    return Py_XNewRef(answer->request);
}

PyObject *core_request_current(core_state *state) {
    core_thread *thread = core_thread_existing();
    if (thread && thread->answers)
        return of_answer(thread->answers);
    PyObject *value = NULL;
    if (PyContextVar_Get(state->request_variable, NULL, &value) < 0)
        PyErr_Clear(); /* out of memory */
    return value;
}

uint64_t core_request_in(PyObject *request, const core_session *s) {
    core_request *r = (core_request *)request;
    while (r && r->session != s)
        r = (core_request *)r->origin;
    return r ? r->id : 0;
}

/* ---- whether somebody waits ---- */

/* is_given_up: returns whether the peer no longer waits for an open request. */
static bool is_given_up(core_session *s, uint64_t id) {
    return id && piso_session_cancelled(s->session, id) > 0;
}

/* is_in_vain: returns whether a Request (or NULL) or one of its origins has been given up. */
static bool is_in_vain(PyObject *request) {
    for (core_request *r = (core_request *)request; r; r = (core_request *)r->origin) {
        if (!r->answered && is_given_up(r->session, r->id))
            r->given_up = true;
        if (r->given_up)
            return true;
    }
    return false;
}

/* check_cancelled: most plain functions have no Request. */
static PyObject *check_cancelled(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    core_state *state = core_module_state(module);
    core_thread *thread = core_thread_existing();
    core_answer *answer = thread ? thread->answers : NULL;
    bool in_vain;
    if (answer) {
        in_vain = is_given_up(answer->session, answer->id) || is_in_vain(answer->origin);
    } else {
        PyObject *request = core_request_current(state);
        in_vain = is_in_vain(request);
        Py_XDECREF(request);
    }
    if (!in_vain)
        Py_RETURN_NONE;
    state->callbacks->raise_cancelled(state);
    return NULL;
}

/* session_of: returns the session of the current request: a new reference, or NULL without an exception. */
static PyObject *session_of(core_state *state) {
    PyObject *request = core_request_current(state);
    PyObject *session = request ? Py_NewRef((PyObject *)((core_request *)request)->session) : NULL;
    Py_XDECREF(request);
    return session;
}

static PyObject *current_session(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    PyObject *session = session_of(core_module_state(module));
    return session ? session : Py_NewRef(Py_None);
}

static PyObject *current_request(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    PyObject *request = core_request_current(core_module_state(module));
    return request ? request : Py_NewRef(Py_None);
}

static PyObject *current_call(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    core_request *r = (core_request *)core_request_current(core_module_state(module));
    if (!r)
        Py_RETURN_NONE;
    PyObject *deadline =
        r->deadline_ns == PISO_NO_DEADLINE ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)r->deadline_ns / 1e9);
    PyObject *call = deadline ? Py_BuildValue("ONI", r->session->name, deadline, r->session->generation) : NULL;
    Py_DECREF(r);
    return call;
}

static PyMethodDef functions[] = {
    {"current_call", current_call, METH_NOARGS,
     "current_call() -> tuple[str, float | None, int] | None\n\nReturn the name of the peer whose request is being handled "
     "in this context, when the caller's time ends, and the generation."},
    {"check_cancelled", check_cancelled, METH_NOARGS,
     "check_cancelled()\n--\n\nRaise asyncio.CancelledError if nobody waits any more for the call that is being handled: its "
     "caller has given it up or has ended, or its time is over.\n\nReturns None otherwise, and outside of a call. A "
     "plain method that runs for long calls it now and then."},
    {"current_request", current_request, METH_NOARGS,
     "current_request() -> object | None\n\nReturn what identifies the request that is being handled in this "
     "context."},
    {"current_session", current_session, METH_NOARGS,
     "current_session() -> Session | None\n\nReturn the session whose request is being handled in this context."},
    {NULL, NULL, 0, NULL},
};

static int request_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((core_request *)self)->session);
    Py_VISIT(((core_request *)self)->origin);
    return 0;
}

static void request_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_open_request *open = core_open_request_find(((core_request *)self)->session, ((core_request *)self)->id);
    if (open && open->request == self)
        open->request = NULL;
    Py_DECREF(((core_request *)self)->session);
    Py_XDECREF(((core_request *)self)->origin);
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
    if (open->request)
        ((core_request *)open->request)->given_up = true;
    if (open->handler)
        s->on->cancel(open->handler);
    else if (open->forward)
        s->state->forwarding->cancel(open->forward);
}

void core_request_answered(core_session *s, core_open_request *open) {
    core_request *request = (core_request *)open->request;
    if (request) {
        request->answered = true;
        request->given_up |= piso_session_state(s->session) != 0; /* nobody gets the answer */
    }
    *open = (core_open_request){0};
}
