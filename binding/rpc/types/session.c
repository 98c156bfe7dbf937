/* session.c - the Session type, and creating its two ends. The layers above add methods that need a process or an event
 * loop (core_session_add).
 *
 * Everything that can block releases the GIL and returns regularly to check for signals. */
#include <errno.h>

#include "codec/gpu.h"
#include "codec/quota.h"
#include "common/arguments.h"
#include "method.h"
#include "rpc/exports.h"
#include "rpc/hooks.h"
#include "rpc/pump/meter.h"
#include "rpc/pump/pump.h"
#include "rpc/send.h"
#include "rpc/session_error.h"
#include "session.h"

#include <structmember.h>

#define LET_GO_NS                                                                                                      \
    100000000 /* how long close waits for threads that still use the session, so that no file descriptor stays open */

/* ---- creation and deallocation ---- */

PyObject *core_session_new(core_state *state, PyObject *name, PyObject *registry) {
    core_session *s = PyObject_GC_New(core_session, state->session_type);
    if (!s)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->state = state;
    s->on = state->callbacks;
    s->name = Py_NewRef(name);
    s->codec = (core_codec){.state = state, .registry = Py_NewRef(registry)};
    s->names = PyList_New(0);
    s->context = PyContext_CopyCurrent();
    PyObject_GC_Track(s);
    if (s->names && s->context)
        return (PyObject *)s;
    Py_DECREF(s);
    return NULL;
}

void core_session_set_handle(core_session *s, piso_session *session) {
    s->session = session;
    s->codec.session = session;
    s->codec.owner = (PyObject *)s;
    s->codec.value_limit = core_value_limit(session);
    s->next_session = s->state->sessions;
    s->previous_session = &s->state->sessions;
    if (s->next_session)
        s->next_session->previous_session = &s->next_session;
    s->state->sessions = s;
}

static void leave(core_session *s) {
    if (!s->previous_session)
        return; /* it has no session */
    *s->previous_session = s->next_session;
    if (s->next_session)
        s->next_session->previous_session = s->previous_session;
}

static int session_traverse(PyObject *self, visitproc visit, void *arg) {
    core_session *s = (core_session *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->codec.registry);
    Py_VISIT(s->codec.segment_cache);
    Py_VISIT(s->context);
    Py_VISIT(s->error_hook);
    Py_VISIT(s->refusal_hook);
    Py_VISIT(s->end_hook);
    Py_VISIT(s->threads_hook);
    Py_VISIT(s->fork_hook);
    int r = core_objects_visit(s, visit, arg);
    return r ? r : s->on->visit(s, visit, arg);
}

static int session_clear(PyObject *self) {
    core_session *s = (core_session *)self;
    s->on->clear(s);
    Py_CLEAR(s->context);
    core_objects_clear(s);
    Py_CLEAR(s->error_hook);
    Py_CLEAR(s->refusal_hook);
    Py_CLEAR(s->end_hook);
    Py_CLEAR(s->threads_hook);
    Py_CLEAR(s->fork_hook);
    Py_CLEAR(s->codec.segment_cache);
    return 0;
}

static void session_dealloc(PyObject *self) {
    core_session *s = (core_session *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (s->weakrefs)
        PyObject_ClearWeakRefs(self);
    session_clear(self);
    leave(s);
    PyMem_Free(s->open);
    Py_CLEAR(s->codec.registry);
    Py_CLEAR(s->name);
    Py_CLEAR(s->end_note);
    if (s->session)
        piso_session_close(s->session);
    piso_session_unref(s->session);
    core_objects_fini(s);
    if (s->state->gpu)
        s->state->gpu->clear(&s->codec);
    Py_CLEAR(s->codec.gpu.devices);
    Py_CLEAR(s->remotes); /* empty: each remote object has a reference to the session */
    Py_CLEAR(s->names);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- the two ends ---- */

static PyObject *session_attach(PyObject *type, PyObject *args) {
    core_state *state = core_type_state((PyTypeObject *)type);
    int fd, r;
    PyObject *registry;
    if (!PyArg_ParseTuple(args, "iO!:attach", &fd, state->registry_type, &registry))
        return NULL;
    PyObject *name = PyUnicode_FromString("host");
    PyObject *s = name ? core_session_new(state, name, registry) : NULL;
    Py_XDECREF(name);
    if (!s)
        return NULL;
    piso_session *session = NULL;
    Py_BEGIN_ALLOW_THREADS r = piso_session_attach(fd, &session);
    Py_END_ALLOW_THREADS if (r < 0) {
        Py_DECREF(s);
        return core_raise(state, r, "attaching to the host");
    }
    core_session_set_handle((core_session *)s, session);
    ((core_session *)s)->codec.value_limit = INT64_MAX; /* the host is trusted */
    return s;
}

static PyObject *session_pair(PyObject *type, PyObject *args) {
    core_state *state = core_type_state((PyTypeObject *)type);
    PyObject *registry, *registry2 = NULL;
    if (!PyArg_ParseTuple(args, "O!|O!:pair", state->registry_type, &registry, state->registry_type, &registry2))
        return NULL;
    PyObject *names[2] = {PyUnicode_FromString("child"), PyUnicode_FromString("host")};
    PyObject *host = names[0] ? core_session_new(state, names[0], registry) : NULL;
    PyObject *child = host && names[1] ? core_session_new(state, names[1], registry2 ? registry2 : registry) : NULL;
    PyObject *pair = NULL;
    piso_session *ends[2];
    int r = child ? piso_session_pair(0, &ends[0], &ends[1]) : 0;
    if (r < 0) {
        core_raise(state, r, "making a pair of sessions");
    } else if (child) {
        core_session_set_handle((core_session *)host, ends[0]);
        core_session_set_handle((core_session *)child, ends[1]);
        pair = PyTuple_Pack(2, host, child);
    }
    Py_XDECREF(host);
    Py_XDECREF(child);
    Py_XDECREF(names[0]);
    Py_XDECREF(names[1]);
    return pair;
}

static PyObject *session_handshake(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    core_session *s = (core_session *)self;
    PyObject *timeout = NULL;
    int64_t ns, slice;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:handshake", names, &timeout) ||
        core_timeout_from(timeout, &ns) < 0)
        return NULL;
    int64_t end = ns < 0 ? -1 : piso_now_ns() + ns;
    for (;;) {
        bool more = core_next_slice(end, &slice);
        int r;
        Py_BEGIN_ALLOW_THREADS r = piso_session_handshake(s->session, slice);
        Py_END_ALLOW_THREADS if (r == 0) Py_RETURN_NONE;
        if (r != -ETIMEDOUT && r != -EINTR)
            return core_session_error(s, r, NULL);
        if (Py_MakePendingCalls() < 0)
            return NULL;
        if (!more)
            return PyErr_Format(s->state->call_timeout, "the process of %R did not start within %S seconds", s->name,
                                timeout);
    }
}

/* ---- objects and methods ---- */

static PyObject *session_method(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"object_id", "name", "sync", "timeout", NULL};
    unsigned int id;
    PyObject *name, *timeout = Py_None;
    int sync = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "IU|$pO:method", names, &id, &name, &sync, &timeout))
        return NULL;
    core_callee to = {.session = (core_session *)self, .object = id, .method = CORE_NOT_INTERNED, .name = name};
    return core_call_timeout(timeout, &to.timeout_ns) < 0 ? NULL : core_method_new(&to, sync, timeout);
}

/* ---- the end ---- */

static PyObject *session_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    core_pump_context context = {.waits = true, .thread = core_thread_here()};
    if (!context.thread)
        return NULL;
    Py_BEGIN_ALLOW_THREADS piso_session_close(s->session);
    Py_END_ALLOW_THREADS;
    while (core_pump(s, &context, 256) > 0)
        continue;
    /* other threads' loops release the descriptor in their next iteration */
    Py_BEGIN_ALLOW_THREADS piso_session_disconnect(s->session, LET_GO_NS);
    Py_END_ALLOW_THREADS
        /* Context variables of the application may refer to the session. Without the context, the session and its file
         * descriptors do not wait for the garbage collector. */
        PyObject *empty = PyContext_New();
    if (!empty)
        return NULL;
    Py_XSETREF(s->context, empty);
    Py_RETURN_NONE;
}

static PyObject *session_closed(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(piso_session_state(((core_session *)self)->session) != 0);
}

static PyObject *session_trim(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    Py_BEGIN_ALLOW_THREADS piso_session_flush(s->session);
    piso_session_trim(s->session, 0);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *session_share(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"torch", "numpy", "cuda", NULL};
    core_session *s = (core_session *)self;
    int torch = 0, numpy = 0;
    PyObject *cuda = Py_None, *devices = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$ppO:share", names, &torch, &numpy, &cuda) ||
        (cuda != Py_None && !(devices = PyFrozenSet_New(cuda))))
        return NULL;
    Py_XSETREF(s->codec.gpu.devices, devices);
    s->codec.share_torch = torch;
    s->codec.share_numpy = numpy;
    piso_session_share(s->session, torch || numpy);
    Py_RETURN_NONE;
}

static PyObject *session_stats(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    piso_stats t = {.size = sizeof t};
    Py_BEGIN_ALLOW_THREADS piso_session_stats(s->session, &t);
    Py_END_ALLOW_THREADS return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsK}", "calls_sent", t.calls_sent, "calls_received", t.calls_received, "replies_sent",
        t.replies_sent, "replies_received", t.replies_received, "doorbells_rung", t.doorbells_rung, "yields", t.yields,
        "arena_live", t.arena_live, "arena_committed", t.arena_committed, "spans_held", t.spans_held, "queued",
        t.queued, "segments", t.segments, "leases_given", t.leases_given, "leases_held", t.leases_held);
}

static PyObject *session_repr(PyObject *self) {
    core_session *s = (core_session *)self;
    int state = piso_session_state(s->session);
    return PyUnicode_FromFormat("<pyisolate.Session %R %s>", s->name, state ? piso_strerror(state) : "open");
}

/* ---- the type ---- */

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef session_methods[] = {
    {"attach", session_attach, METH_VARARGS | METH_CLASS,
     "Return the child's end, from the file descriptor in PISO_FD."},
    {"pair", session_pair, METH_VARARGS | METH_CLASS, "Return both ends in one process, for tests."},
    {"handshake", KEYWORDS(session_handshake), "Wait until the child has attached."},
    {"register", core_session_register, METH_VARARGS,
     "Register the object that handles the peer's calls of an object id."},
    {"unregister", core_session_unregister, METH_O, "Unregister an object id."},
    {"method", KEYWORDS(session_method), "Return a method of a remote object."},
    {"close", session_close, METH_NOARGS, "Notify the peer and fail pending calls."},
    {"closed", session_closed, METH_NOARGS, "Return whether the session has ended, for whatever reason."},
    {"meter", core_session_meter, METH_VARARGS, "Drop notifications of a method when there are too many."},
    {"metered", core_session_metered, METH_NOARGS, "Return how many were dropped since the last call."},
    {"notify", core_session_notify, METH_VARARGS, "Send a call without a reply, unless too many messages wait."},
    {"explain", KEYWORDS(core_session_explain), "Set the text of errors that report the child's end."},
    {"on_end", core_session_on_end, METH_O,
     "Set a function that is called before the child's end is reported to a caller."},
    {"on_error", core_session_on_error, METH_O, "Set a function that is called with each exception before it is sent."},
    {"on_refused", core_session_on_refused, METH_O,
     "Set a function that is called with errors of a child whose system calls were refused."},
    {"on_plain", core_session_on_plain, METH_O,
     "Set a function that is called with a plain method and its arguments and returns an awaitable for its result."},
    {"on_copy", core_session_on_copy, METH_O, "Set a function that ends a process that a handler has forked."},
    {"trim", session_trim, METH_NOARGS, "Release free shared memory to the system now."},
    {"share", KEYWORDS(session_share), "Set what is shared with the peer instead of copied."},
    {"stats", session_stats, METH_NOARGS, "Return counters and sizes, by name."},
    {NULL, NULL, 0, NULL},
};
static int session_set_call_timeout(PyObject *self, PyObject *timeout, void *Py_UNUSED(ignored)) {
    return core_call_timeout(timeout ? timeout : Py_None, &((core_session *)self)->call_timeout_ns);
}

static PyGetSetDef session_attributes[] = {
    {"call_timeout", NULL, session_set_call_timeout,
     "Seconds that calls of the peer's functions and references may take, or None. Can only be set.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef session_members[] = {
    {"name", T_OBJECT, offsetof(core_session, name), READONLY, "The extension's name."},
    {"refuse_subclasses", T_BOOL, offsetof(core_session, codec.refuse_subclasses), 0,
     "Whether values of subclasses are refused instead of sent as their base."},
    {"generation", T_UINT, offsetof(core_session, generation), 0,
     "The generation of the extension whose process is at one of the ends."},
    {"value_limit", T_LONGLONG, offsetof(core_session, codec.value_limit), 0,
     "Bytes that a message may take in this process."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(core_session, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One end of a connection between the host and an extension's process."},
    {Py_tp_methods, session_methods},
    {Py_tp_members, session_members},
    {Py_tp_getset, session_attributes},
    {Py_tp_repr, session_repr},
    {Py_tp_traverse, session_traverse},
    {Py_tp_clear, session_clear},
    {Py_tp_dealloc, session_dealloc},
    {0, NULL},
};
static PyType_Spec session_spec = {
    .name = "pyisolate._core.Session",
    .basicsize = sizeof(core_session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = session_slots,
};

int core_session_add(core_state *state, PyMethodDef *methods, PyGetSetDef *attributes) {
    PyTypeObject *type = state->session_type;
    int r = 0;
    for (PyMethodDef *m = methods; r == 0 && m->ml_name; m++) {
        PyObject *method = m->ml_flags & METH_CLASS ? PyDescr_NewClassMethod(type, m) : PyDescr_NewMethod(type, m);
        r = method ? PyObject_SetAttrString((PyObject *)type, m->ml_name, method) : -1;
        Py_XDECREF(method);
    }
    for (PyGetSetDef *g = attributes; r == 0 && g && g->name; g++) {
        PyObject *attribute = PyDescr_NewGetSet(type, g);
        r = attribute ? PyObject_SetAttrString((PyObject *)type, g->name, attribute) : -1;
        Py_XDECREF(attribute);
    }
    return r;
}

int core_session_init(PyObject *module, core_state *state) {
    state->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &session_spec, NULL);
    return state->session_type ? PyModule_AddType(module, state->session_type) : -1;
}
