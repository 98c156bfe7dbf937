/* send.c - sends calls, with a reply or without one. */
#include "send.h"

#include "codec/custom/functions.h"
#include "request.h"
#include "session_error.h"

void core_pending_init(core_pending *pending, const core_callee *to) {
    *pending = (core_pending){.name = Py_NewRef(to->name), .timeout_ns = to->timeout_ns};
}

void core_pending_fini(core_pending *pending) {
    Py_CLEAR(pending->name);
    Py_CLEAR(pending->value);
    Py_CLEAR(pending->remotes);
    Py_CLEAR(pending->origin);
}

/* keep_remote: adds the remote object that is called to those that the arguments name. Returns 0 or -1. */
static int keep_remote(core_pending *pending, PyObject *remote) {
    if (remote && pending->remotes)
        return PyList_Append(pending->remotes, remote);
    if (remote)
        pending->remotes = Py_NewRef(remote);
    return 0;
}

int core_send(const core_callee *to, core_pending *pending, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames) {
    core_session *s = to->session;
    if (core_refuse_converting(s->state) < 0)
        return -1;
    if (to->remote && s->state->forwarding->check(to->remote) < 0)
        return -1;
    piso_writer w;
    piso_writer_init(&w);
    pending->thread = PyThread_get_thread_ident();
    int flags = core_encode_call(&s->codec, &w, args, nargs, kwnames, &pending->remotes);
    if (flags >= 0 && keep_remote(pending, to->remote) < 0)
        flags = -1;
    int r = -1;
    if (flags >= 0) {
        int64_t deadline = pending->timeout_ns ? piso_now_coarse_ns() + pending->timeout_ns : PISO_NO_DEADLINE;
        bool buffers = w.nspans > 0 || w.size > PISO_INLINE_BODY;
        if (!pending->origin)
            pending->origin = core_request_current(s->state);
        int64_t outer = core_request_deadline(pending->origin);
        if (outer < deadline) { /* nobody waits longer for the result */
            deadline = outer;
            pending->timeout_ns = 0;
        }
        r = piso_session_call(s->session, &pending->call, to->object, to->method, (unsigned)flags,
                              core_request_in(pending->origin, s), deadline, &w);
        if (r < 0)
            core_session_error(s, r, pending);
        else if (buffers)
            s->on->buffers_sent(s);
    }
    if (r < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    return r < 0 ? -1 : 0;
}

PyObject *core_pending_take(core_pending *pending) {
    PyObject *value = pending->value;
    bool failed = pending->outcome == CORE_EXCEPTION;
    pending->value = NULL;
    pending->outcome = CORE_TAKEN;
    if (!failed)
        return value;
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    Py_DECREF(value);
    return NULL;
}

/* core_session_notify: notify(object_id, name, args, limit): sends a call without a reply. Returns False when it was
 * not sent because more than `limit` messages wait already. */
PyObject *core_session_notify(PyObject *self, PyObject *args) {
    core_session *s = (core_session *)self;
    unsigned int object;
    const char *name;
    Py_ssize_t size;
    PyObject *arguments;
    unsigned long long limit;
    if (!PyArg_ParseTuple(args, "Is#O!K:notify", &object, &name, &size, &PyTuple_Type, &arguments, &limit))
        return NULL;
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(s->session, &stats);
    if (stats.queued > limit)
        Py_RETURN_FALSE;
    uint32_t method;
    int r = piso_session_intern(s->session, name, (size_t)size, &method);
    if (r < 0)
        return core_session_error(s, r, NULL);
    piso_writer w;
    piso_writer_init(&w);
    PyObject *const *items = &PyTuple_GET_ITEM(arguments, 0);
    int flags = core_encode_call(&s->codec, &w, items, PyTuple_GET_SIZE(arguments), NULL, NULL);
    if (flags >= 0) {
        flags |= PISO_CALL_NO_REPLY;
        PyObject *current = core_request_current(s->state);
        r = piso_session_call(s->session, NULL, object, method, (unsigned)flags, core_request_in(current, s),
                              PISO_NO_DEADLINE, &w);
        Py_XDECREF(current);
        if (r < 0)
            core_session_error(s, r, NULL);
    }
    if (flags < 0 || r < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    return flags < 0 || r < 0 ? NULL : Py_NewRef(Py_True);
}
