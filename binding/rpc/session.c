/* session.c - the Session type: making the two ends, what is offered to the peer, the child's process.
 * Everything that can block gives up the GIL and comes back for signals. */
#include "aio/asyncio.h"
#include "session.h"
#include "process/zygote.h"

#include "process/sandbox.h"

#include <errno.h>
#include <structmember.h>

#define TAIL_SIZE 16384     /* of stderr, in an error */
#define LET_GO_NS 100000000 /* what close waits for others, who need a moment, so that it leaves no descriptor */

/* ---- making and unmaking ---- */

static PyObject *session_new(core_state *state, PyObject *name, PyObject *registry) {
    core_session *s = PyObject_GC_New(core_session, state->session_type);
    if (!s)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->state = state;
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

static void give(core_session *s, piso_session *session) {
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
    Py_VISIT(s->codec.seen);
    Py_VISIT(s->context);
    for (int i = 0; i < CORE_OBJECTS_INLINE; i++)
        Py_VISIT(s->objects[i]);
    Py_VISIT(s->more_objects);
    for (core_handler *h = s->handlers; h; h = core_handler_next(h))
        Py_VISIT(h);
    Py_VISIT(s->finished);
    Py_VISIT(s->error_hook);
    Py_VISIT(s->refusal_hook);
    Py_VISIT(s->end_hook);
    Py_VISIT(s->copy_hook);
    for (core_link *link = s->links; link; link = link->next)
        Py_VISIT(link);
    return 0;
}

static int session_clear(PyObject *self) {
    core_session *s = (core_session *)self;
    core_link_detach_all(s);
    Py_CLEAR(s->context);
    for (int i = 0; i < CORE_OBJECTS_INLINE; i++)
        Py_CLEAR(s->objects[i]);
    Py_CLEAR(s->more_objects);
    Py_CLEAR(s->finished);
    Py_CLEAR(s->error_hook);
    Py_CLEAR(s->refusal_hook);
    Py_CLEAR(s->end_hook);
    Py_CLEAR(s->copy_hook);
    Py_CLEAR(s->codec.seen);
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
    core_lent_clear(&s->codec);
    Py_CLEAR(s->codec.cuda);
    Py_CLEAR(s->names);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- errors ---- */

PyObject *core_session_error(core_session *s, int error, const core_pending *pending) {
    if (error == -ETIMEDOUT && pending) {
        PyObject *seconds = PyFloat_FromDouble((double)(pending->timeout_ns - 1) / 1e9);
        if (seconds)
            PyErr_Format(s->state->call_timeout, "the call of %R of %R did not finish within %S seconds", pending->name,
                         s->name, seconds);
        Py_XDECREF(seconds);
        return NULL;
    }
    if (error == PISO_ECLOSED && s->end_note)
        return PyErr_Format(s->state->extension_stopped, "%R has been stopped; %U", s->name, s->end_note);
    if (error == PISO_ECLOSED)
        return PyErr_Format(s->state->extension_stopped, "%R has been stopped", s->name);
    core_session_tell_end(s);
    piso_process *process = piso_session_process(s->session);
    const char *name = PyUnicode_AsUTF8(s->name);
    if (!name)
        return NULL;
    const char *fault = error == PISO_EPROTO ? piso_session_fault(s->session) : NULL;
    if (fault)
        return PyErr_Format(s->state->protocol_error, "%s: the other side was disconnected: %s", name, fault);
    if (error != PISO_EDIED)
        return core_raise(s->state, error, name);
    piso_exit status = {.known = false, .code = -1};
    char tail[TAIL_SIZE];
    size_t size = 0;
    int pid = 0;
    uint64_t memory_exceeded = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS piso_process_wait(process, 50000000,
                                                 &status); /* a child that said goodbye may still be ending */
        size = piso_process_stderr(process, tail, sizeof tail);
        pid = piso_process_pid(process);
        memory_exceeded = piso_process_memory_exceeded(process);
        Py_END_ALLOW_THREADS
    }
    core_death death = {
        .name = name,
        .pid = pid,
        .status = &status,
        .tail = tail,
        .tail_size = size,
        .note = s->end_note,
        .hung = s->hung,
        .memory_exceeded = memory_exceeded,
    };
    return core_raise_died(s->state, &death);
}

/* ---- the two ends ---- */

/* spawn: options has all but argv, envp, the name and the sandbox. */
static int spawn(core_session *s, PyObject *argv, PyObject *env, piso_spawn *options, core_sandbox *sandbox) {
    PyObject *arguments = core_encode_list(argv), *environment = arguments ? core_environment_list(env) : NULL;
    const char **c_argv = environment ? core_string_array(arguments) : NULL;
    const char **c_envp = c_argv ? core_string_array(environment) : NULL;
    int r = -1;
    if (c_envp && !c_argv[0]) {
        PyErr_SetString(PyExc_ValueError, "argv must name a program");
    } else if (c_envp) {
        options->argv = c_argv;
        options->envp = c_envp;
        options->name = PyUnicode_AsUTF8(s->name);
        options->sandbox = sandbox->keep ? &sandbox->spec : NULL;
        options->report = &sandbox->report;
        piso_session *session = NULL;
        if (options->name) {
            Py_BEGIN_ALLOW_THREADS r = piso_session_spawn(options, &session);
            Py_END_ALLOW_THREADS if (r < 0) core_raise(s->state, r, c_argv[0]);
            else give(s, session);
        }
    }
    PyMem_Free(c_argv);
    PyMem_Free(c_envp);
    Py_XDECREF(arguments);
    Py_XDECREF(environment);
    return r;
}

/* spawn_confined: spawn with a sandbox, or None, and a list for its report, or NULL. */
static int spawn_confined(core_session *s, PyObject *argv, PyObject *env, piso_spawn *options, PyObject *description,
                          PyObject *report) {
    core_sandbox sandbox = {.report.size = sizeof sandbox.report};
    int r = description == Py_None ? 0 : core_sandbox_parse(description, &sandbox);
    if (r == 0)
        r = spawn(s, argv, env, options, &sandbox);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (sandbox.keep && report && core_sandbox_report(&sandbox.report, report) < 0)
        r = -1;
    if (type)
        PyErr_Restore(type, value, traceback);
    core_sandbox_fini(&sandbox);
    return r;
}

static PyObject *session_spawn(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"argv",        "env",    "name",         "registry", "cwd",    "arena_size", "echo_stdout",
                            "echo_stderr", "zygote", "max_requests", "sandbox",  "report", "execute",    NULL};
    core_state *state = core_type_state((PyTypeObject *)type);
    PyObject *argv, *env, *name = NULL, *registry = NULL, *sandbox = Py_None, *report = NULL;
    const char *cwd = NULL;
    unsigned long long arena_size = 0;
    unsigned max_requests = 0;
    int echo_stdout = 1, echo_stderr = 1, execute = 0;
    PyObject *zygote = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$UO!zKppOIOO!p:spawn", names, &argv, &env, &name,
                                     state->registry_type, &registry, &cwd, &arena_size, &echo_stdout, &echo_stderr,
                                     &zygote, &max_requests, &sandbox, &PyList_Type, &report, &execute))
        return NULL;
    if (zygote != Py_None && !Py_IS_TYPE(zygote, state->zygote_type)) {
        PyErr_SetString(PyExc_TypeError, "zygote must be a Zygote or None");
        return NULL;
    }
    if (!name || !registry) {
        PyErr_SetString(PyExc_TypeError, "spawn() needs the arguments name and registry");
        return NULL;
    }
    PyObject *s = session_new(state, name, registry);
    piso_spawn options = {
        .size = sizeof options,
        .cwd = cwd,
        .arena_size = (size_t)arena_size,
        .echo_stdout = echo_stdout != 0,
        .echo_stderr = echo_stderr != 0,
        .zygote = zygote == Py_None ? NULL : core_zygote_handle(zygote),
        .execute = execute != 0,
        .max_requests = max_requests,
    };
    if (s)
        ((core_session *)s)->codec.text_only = sandbox != Py_None;
    if (s && spawn_confined((core_session *)s, argv, env, &options, sandbox, report) < 0)
        Py_CLEAR(s);
    return s;
}

static PyObject *session_attach(PyObject *type, PyObject *args) {
    core_state *state = core_type_state((PyTypeObject *)type);
    int fd, r;
    PyObject *registry;
    if (!PyArg_ParseTuple(args, "iO!:attach", &fd, state->registry_type, &registry))
        return NULL;
    PyObject *name = PyUnicode_FromString("host");
    PyObject *s = name ? session_new(state, name, registry) : NULL;
    Py_XDECREF(name);
    if (!s)
        return NULL;
    piso_session *session = NULL;
    Py_BEGIN_ALLOW_THREADS r = piso_session_attach(fd, &session);
    Py_END_ALLOW_THREADS if (r < 0) {
        Py_DECREF(s);
        return core_raise(state, r, "attaching to the host");
    }
    give((core_session *)s, session);
    ((core_session *)s)->codec.value_limit = INT64_MAX; /* the host is trusted */
    return s;
}

static PyObject *session_pair(PyObject *type, PyObject *args) {
    core_state *state = core_type_state((PyTypeObject *)type);
    PyObject *registry, *registry2 = NULL;
    if (!PyArg_ParseTuple(args, "O!|O!:pair", state->registry_type, &registry, state->registry_type, &registry2))
        return NULL;
    PyObject *names[2] = {PyUnicode_FromString("child"), PyUnicode_FromString("host")};
    PyObject *host = names[0] ? session_new(state, names[0], registry) : NULL;
    PyObject *child = host && names[1] ? session_new(state, names[1], registry2 ? registry2 : registry) : NULL;
    PyObject *pair = NULL;
    piso_session *ends[2];
    int r = child ? piso_session_pair(0, &ends[0], &ends[1]) : 0;
    if (r < 0) {
        core_raise(state, r, "making a pair of sessions");
    } else if (child) {
        give((core_session *)host, ends[0]);
        give((core_session *)child, ends[1]);
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

static PyObject *session_register(PyObject *self, PyObject *args) {
    core_session *s = (core_session *)self;
    unsigned int id;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "IO:register", &id, &object))
        return NULL;
    if (id < CORE_OBJECTS_INLINE) {
        Py_XSETREF(s->objects[id], Py_NewRef(object));
        Py_RETURN_NONE;
    }
    if (!s->more_objects && !(s->more_objects = PyDict_New()))
        return NULL;
    PyObject *key = PyLong_FromUnsignedLong(id);
    int r = key ? PyDict_SetItem(s->more_objects, key, object) : -1;
    Py_XDECREF(key);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *session_unregister(PyObject *self, PyObject *id_object) {
    core_session *s = (core_session *)self;
    unsigned long id = PyLong_AsUnsignedLong(id_object);
    if (PyErr_Occurred())
        return NULL;
    if (id < CORE_OBJECTS_INLINE)
        Py_CLEAR(s->objects[id]);
    else if (s->more_objects && PyDict_Contains(s->more_objects, id_object) > 0)
        PyDict_DelItem(s->more_objects, id_object);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *session_method(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"object_id", "name", "sync", "timeout", NULL};
    unsigned int id;
    PyObject *name, *timeout = Py_None;
    int sync = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "IU|$pO:method", names, &id, &name, &sync, &timeout))
        return NULL;
    return core_method_new((core_session *)self, id, name, sync, timeout);
}

static PyObject *session_serve(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    core_link *link = s->closed ? NULL : core_link_here(s);
    if (!link)
        return PyErr_Occurred() ? NULL : core_session_error(s, piso_session_state(s->session), NULL);
    PyObject *finished =
        s->finished ? Py_NewRef(s->finished) : PyObject_CallMethodNoArgs(link->loop, s->state->async->create_future);
    if (finished && s->closed) { /* while the loop's code ran */
        Py_CLEAR(finished);
        core_session_error(s, piso_session_state(s->session), NULL);
    } else if (finished && !s->finished) {
        s->finished = Py_NewRef(finished);
        core_link_serve(link);
    } else if (finished) {
        Py_SETREF(finished, Py_NewRef(s->finished));
    }
    Py_DECREF((PyObject *)link);
    return finished;
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
    /* other threads' loops let go of the descriptor at their next turn */
    Py_BEGIN_ALLOW_THREADS piso_session_disconnect(s->session, LET_GO_NS);
    Py_END_ALLOW_THREADS
        /* What the application keeps in context variables may know the session. Without it, neither waits for the garbage
     * collector, and the descriptors with them. */
        PyObject *empty = PyContext_New();
    if (!empty)
        return NULL;
    Py_XSETREF(s->context, empty);
    Py_RETURN_NONE;
}

static PyObject *session_closed(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(piso_session_state(((core_session *)self)->session) != 0);
}

static PyObject *session_kill(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"signal", NULL};
    core_session *s = (core_session *)self;
    int signal = 9;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:kill", names, &signal))
        return NULL;
    piso_process *process = piso_session_process(s->session);
    int r = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS r = piso_process_kill(process, signal);
        Py_END_ALLOW_THREADS
    }
    if (r < 0 && r != -ESRCH)
        return core_session_error(s, r, NULL);
    Py_RETURN_NONE;
}

static PyObject *session_wait(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    core_session *s = (core_session *)self;
    PyObject *timeout = NULL;
    int64_t ns, slice;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", names, &timeout) || core_timeout_from(timeout, &ns) < 0)
        return NULL;
    piso_process *process = piso_session_process(s->session);
    if (!process)
        Py_RETURN_NONE;
    int64_t end = ns < 0 ? -1 : piso_now_ns() + ns;
    for (;;) {
        bool more = core_next_slice(end, &slice);
        piso_exit status;
        int r;
        Py_BEGIN_ALLOW_THREADS r = piso_process_wait(process, slice, &status);
        Py_END_ALLOW_THREADS if (r < 0 && r != -EINTR) return core_session_error(s, r, NULL);
        if (r > 0)
            return PyLong_FromLong(status.signal ? -status.signal : status.code);
        if (Py_MakePendingCalls() < 0)
            return NULL;
        if (!more)
            Py_RETURN_NONE;
    }
}

static PyObject *session_stderr(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    piso_process *process = piso_session_process(((core_session *)self)->session);
    char tail[TAIL_SIZE];
    size_t size = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS size = piso_process_stderr(process, tail, sizeof tail);
        Py_END_ALLOW_THREADS
    }
    return PyUnicode_DecodeUTF8(tail, (Py_ssize_t)size, "replace");
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
    Py_XSETREF(s->codec.cuda, devices);
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

static PyObject *session_get_pid(PyObject *self, void *Py_UNUSED(closure)) {
    piso_process *process = piso_session_process(((core_session *)self)->session);
    return process ? PyLong_FromLong(piso_process_pid(process)) : Py_NewRef(Py_None);
}

/* ---- the type ---- */

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef session_methods[] = {
    {"spawn", KEYWORDS(session_spawn) | METH_CLASS, "Start a process with a channel to it."},
    {"attach", session_attach, METH_VARARGS | METH_CLASS, "The child's end, from the descriptor in PISO_FD."},
    {"pair", session_pair, METH_VARARGS | METH_CLASS, "Both ends in one process, for tests."},
    {"handshake", KEYWORDS(session_handshake), "Wait until the child has attached."},
    {"register", session_register, METH_VARARGS, "Answer the peer's calls to an object id with an object."},
    {"unregister", session_unregister, METH_O, "Take back what register offered."},
    {"method", KEYWORDS(session_method), "A method of an object on the other side."},
    {"serve", session_serve, METH_NOARGS, "Answer calls on the running loop until the session ends."},
    {"close", session_close, METH_NOARGS, "Tell the peer, fail pending calls."},
    {"closed", session_closed, METH_NOARGS, "Whether the session has ended, for whatever reason."},
    {"kill", KEYWORDS(session_kill), "Signal the child's process group."},
    {"wait", KEYWORDS(session_wait), "The child's exit status, or None when the time was over first."},
    {"stderr", session_stderr, METH_NOARGS, "The last lines the child wrote to stderr."},
    {"follow_output", core_session_follow_output, METH_O, "Have output_next name it by a cookie; 0: not any more."},
    {"read_output", core_session_read_output, METH_O, "Output of the child, and how many bytes after it were lost."},
    {"meter", core_session_meter, METH_VARARGS, "Drop notifications of a method when there are too many."},
    {"metered", core_session_metered, METH_NOARGS, "How many were dropped since the last look."},
    {"echo_dropped", core_session_echo_dropped, METH_O, "Bytes of an output that were not echoed since the last look."},
    {"notify", core_session_notify, METH_VARARGS, "A call that is not answered, unless too many wait."},
    {"progress", core_session_progress, METH_NOARGS, "Slots sent, and slots the other side has taken."},
    {"explain", KEYWORDS(core_session_explain), "What errors say when the child has ended."},
    {"on_end", core_session_on_end, METH_O, "A function that is called before a caller is told that the child ended."},
    {"on_error", core_session_on_error, METH_O, "A function that is called with each exception before it is sent."},
    {"on_refused", core_session_on_refused, METH_O,
     "A function that is called with errors of a child that was refused."},
    {"refusals", core_session_refusals, METH_NOARGS, "What system calls the child's sandbox has refused, or None."},
    {"on_copy", core_session_on_copy, METH_O, "A function that ends a process that a handler has forked."},
    {"trim", session_trim, METH_NOARGS, "Give free shared memory back to the system now."},
    {"share", KEYWORDS(session_share), "What is shared with the peer instead of copied."},
    {"stats", session_stats, METH_NOARGS, "Counters and sizes, by name."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef session_members[] = {
    {"name", T_OBJECT, offsetof(core_session, name), READONLY, "The extension's name."},
    {"refuse_subclasses", T_BOOL, offsetof(core_session, codec.refuse_subclasses), 0,
     "Whether values of subclasses are refused instead of sent as their base."},
    {"value_limit", T_LONGLONG, offsetof(core_session, codec.value_limit), 0, "Bytes that a message may take here."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(core_session, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef session_getset[] = {
    {"pid", session_get_pid, NULL, "Process id of the child, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One end of a connection between the host and an extension's process."},
    {Py_tp_methods, session_methods},
    {Py_tp_members, session_members},
    {Py_tp_getset, session_getset},
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

int core_session_init(PyObject *module, core_state *state) {
    state->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &session_spec, NULL);
    return state->session_type ? PyModule_AddType(module, state->session_type) : -1;
}
