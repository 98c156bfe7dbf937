/* spawn.c - the process of a session: starts it, ends it, returns its last output. */
#include "spawn.h"

#include <errno.h>

#include "common/arguments.h"
#include "rpc/session_error.h"
#include "sandbox.h"
#include "zygote.h"

#define TAIL_SIZE 16384 /* of stderr */

/* spawn: `options` contains all fields except argv, envp, the name and the sandbox. */
static int spawn(core_session *s, PyObject *argv, PyObject *env, piso_spawn *options, core_sandbox *sandbox) {
    PyObject *arguments = core_encode_list(argv), *environment = arguments ? core_environment_list(env) : NULL;
    const char **c_argv = environment ? core_string_array(arguments) : NULL;
    const char **c_envp = c_argv ? core_string_array(environment) : NULL;
    int r = -1;
    if (c_envp && !c_argv[0]) {
        PyErr_SetString(PyExc_ValueError, "argv must not be empty: its first item is the program");
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
            else core_session_set_handle(s, session);
        }
    }
    PyMem_Free(c_argv);
    PyMem_Free(c_envp);
    Py_XDECREF(arguments);
    Py_XDECREF(environment);
    return r;
}

/* spawn_confined: spawns with a sandbox, or None, and a list for its report, or NULL. */
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
    PyObject *s = core_session_new(state, name, registry);
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

static PyObject *session_get_pid(PyObject *self, void *Py_UNUSED(closure)) {
    piso_process *process = piso_session_process(((core_session *)self)->session);
    return process ? PyLong_FromLong(piso_process_pid(process)) : Py_NewRef(Py_None);
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"spawn", KEYWORDS(session_spawn) | METH_CLASS, "Start a process with a channel to it."},
    {"kill", KEYWORDS(session_kill), "Signal the child's process group."},
    {"wait", KEYWORDS(session_wait), "Wait for the child; return its exit status, or None after the timeout."},
    {"stderr", session_stderr, METH_NOARGS, "Return the last lines that the child wrote to stderr."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef attributes[] = {
    {"pid", session_get_pid, NULL, "Process id of the child, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int core_spawn_init(PyObject *Py_UNUSED(module), core_state *state) {
    return core_session_add(state, methods, attributes);
}
