/* forward.c - requests whose object belongs to a third process: an extension calls what another extension has given its
 * host. The host decodes the arguments, sends the call to the owner, and answers with its outcome; no task and no Python
 * code is needed. The caller's deadline is passed on, and so is its cancellation. */
#include "remote.h"
#include "rpc/pump/dispatch.h"
#include "rpc/pump/reply.h"
#include "rpc/request.h"
#include "rpc/send.h"

/* A request that was passed on. It keeps itself alive until the call has ended or was given up. */
typedef struct core_forward {
    PyObject_HEAD core_pending pending; /* the call of the owner */
    core_session *to, *from;            /* strong */
    uint64_t request;                   /* of `from`; 0: it expects no reply */
} core_forward;

/* ---- the end ---- */

/* leave: the request has been answered, or is about to be. */
static void leave(core_forward *f) {
    core_open_request *open = core_open_request_find(f->from, f->request);
    if (open && open->forward == f)
        open->forward = NULL;
    f->to->forwarded--;
}

static void ended(core_pending *pending) {
    core_forward *f = (core_forward *)pending->owner;
    if (pending->closed)
        return; /* cancel has answered the request */
    leave(f);
    PyObject *value = core_pending_take(pending);
    core_reply(f->from, f->request, value);
    Py_XDECREF(value);
    Py_DECREF(f);
}

static void cancel(core_forward *f) {
    if (f->pending.closed || f->pending.outcome != CORE_PENDING)
        return; /* its outcome is about to be sent */
    leave(f);
    piso_session_forget(f->to->session, &f->pending.call, true);
    f->pending.closed = true;
    f->from->on->raise_cancelled(f->from->state);
    core_reply(f->from, f->request, NULL);
    Py_DECREF(f);
}

/* ---- the beginning ---- */

/* callee_of: gets what the request calls. Returns 1, 0 if the object is this process's own, or -1. */
static int callee_of(core_state *state, PyObject *object, PyObject *name, core_callee *ret) {
    core_remote *r = core_remote_of(state, object);
    int result;
    if (Py_IS_TYPE(object, state->method_type) && !name)
        result = core_method_callee(object, ret);
    else if (r && r->to.session)
        result = name ? core_ref_callee(r, name, ret) : core_function_callee(r, ret);
    else
        return 0;
    return result < 0 ? -1 : 1;
}

/* pass_on: sends the call. Returns 0, or -1 with an exception. */
static int pass_on(core_session *from, uint64_t request, PyObject *origin, int64_t deadline_ns, const core_callee *to,
                   core_arguments *a) {
    core_forward *f = PyObject_New(core_forward, from->state->forward_type);
    if (!f)
        return -1;
    core_pending_init(&f->pending, to);
    f->pending.owner = (PyObject *)f;
    f->pending.ended = ended;
    f->pending.origin = core_request_new(from, request, origin, deadline_ns);
    f->from = (core_session *)Py_NewRef((PyObject *)from);
    f->to = (core_session *)Py_NewRef((PyObject *)to->session);
    f->request = request;
    if (!f->pending.origin || to->session->on->watch(to->session) < 0 ||
        core_send(to, &f->pending, a->args, a->nargs, a->kwnames) < 0) {
        Py_DECREF(f);
        return -1;
    }
    core_open_request *open = core_open_request_find(from, request);
    if (open)
        open->forward = f;
    f->to->forwarded++;
    return 0;
}

static bool forward_send(core_session *from, uint64_t request, PyObject *origin, PyObject *object, PyObject *name,
                         int64_t deadline_ns, core_arguments *a) {
    core_callee to;
    int is_remote = callee_of(from->state, object, name, &to);
    if (is_remote == 0)
        return false;
    to.timeout_ns = 0; /* this process waits for nothing: its own limit does not apply, but the request's does */
    if (is_remote < 0 || pass_on(from, request, origin, deadline_ns, &to, a) < 0)
        core_reply(from, request, NULL);
    return true;
}

static int check(PyObject *remote) {
    return core_remote_check((core_remote *)remote);
}

/* ---- the type ---- */

static void forward_dealloc(PyObject *self) {
    core_forward *f = (core_forward *)self;
    PyTypeObject *type = Py_TYPE(self);
    core_pending_fini(&f->pending);
    Py_DECREF(f->from);
    Py_DECREF(f->to);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot forward_slots[] = {
    {Py_tp_doc, "A request that was passed on to another process."},
    {Py_tp_dealloc, forward_dealloc},
    {0, NULL},
};
static PyType_Spec forward_spec = {
    .name = "pyisolate._core.Forward",
    .basicsize = sizeof(core_forward),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = forward_slots,
};

int core_forward_init(PyObject *module, core_state *state) {
    static const core_forwarding forwarding = {.send = forward_send, .cancel = cancel, .check = check};
    state->forwarding = &forwarding;
    state->forward_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &forward_spec, NULL);
    return state->forward_type ? PyModule_AddType(module, state->forward_type) : -1;
}
