/* zygote.c - the Zygote type, for the host, and the functions of a zygote's process. Around a fork they do exactly what
 * os.fork does for CPython. */
#include "zygote.h"

#include "common/arguments.h"
#include "common/errors.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

typedef struct core_zygote {
    PyObject_HEAD piso_zygote *zygote;
    PyObject *name;
} core_zygote;

piso_zygote *core_zygote_handle(PyObject *zygote) {
    return ((core_zygote *)zygote)->zygote;
}

/* ---- the host's side ---- */

static void zygote_dealloc(PyObject *self) {
    core_zygote *z = (core_zygote *)self;
    PyTypeObject *type = Py_TYPE(self);
    piso_zygote_unref(z->zygote);
    Py_CLEAR(z->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static int spawn(piso_zygote **ret_zygote, PyObject *argv, PyObject *env, const char *name) {
    PyObject *arguments = core_encode_list(argv), *environment = arguments ? core_environment_list(env) : NULL;
    const char **c_argv = environment ? core_string_array(arguments) : NULL;
    const char **c_envp = c_argv ? core_string_array(environment) : NULL;
    int r = 0;
    if (c_envp) {
        piso_spawn options = {
            .size = sizeof options, .argv = c_argv, .envp = c_envp, .name = name, .echo_stderr = true};
        Py_BEGIN_ALLOW_THREADS r = piso_zygote_spawn(&options, ret_zygote);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(c_argv);
    PyMem_Free(c_envp);
    Py_XDECREF(arguments);
    Py_XDECREF(environment);
    return r;
}

static PyObject *zygote_spawn(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"argv", "env", "name", NULL};
    core_state *state = core_type_state((PyTypeObject *)type);
    PyObject *argv, *env, *name;
    piso_zygote *zygote = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOU:spawn", names, &argv, &env, &name))
        return NULL;
    const char *text = PyUnicode_AsUTF8(name);
    int r = text ? spawn(&zygote, argv, env, text) : 0;
    if (r < 0)
        return core_raise(state, r, text);
    if (!zygote)
        return NULL;
    core_zygote *z = PyObject_New(core_zygote, state->zygote_type);
    if (!z)
        return piso_zygote_unref(zygote), NULL;
    z->zygote = zygote;
    z->name = Py_NewRef(name);
    return (PyObject *)z;
}

/* raise_ended: raises ExtensionDied with the last lines of the zygote's stderr. */
static PyObject *raise_ended(core_state *state, core_zygote *z) {
    piso_process *process = piso_zygote_process(z->zygote);
    piso_exit status = {.known = false, .code = -1};
    char tail[4096];
    size_t size;
    Py_BEGIN_ALLOW_THREADS piso_process_wait(process, 50000000, &status);
    size = piso_process_stderr(process, tail, sizeof tail);
    Py_END_ALLOW_THREADS const char *name = PyUnicode_AsUTF8(z->name);
    core_death death = {
        .name = name,
        .pid = piso_process_pid(process),
        .status = &status,
        .tail = tail,
        .tail_size = size,
    };
    return name ? core_raise_died(state, &death) : NULL;
}

static PyObject *zygote_ready(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    core_zygote *z = (core_zygote *)self;
    core_state *state = core_type_state(Py_TYPE(self));
    PyObject *timeout = NULL;
    int64_t ns, slice;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:ready", names, &timeout) || core_timeout_from(timeout, &ns) < 0)
        return NULL;
    int64_t end = ns < 0 ? -1 : piso_now_ns() + ns;
    for (;;) {
        bool more = core_next_slice(end, &slice);
        const void *report;
        size_t size;
        int r;
        Py_BEGIN_ALLOW_THREADS r = piso_zygote_ready(z->zygote, slice, &report, &size);
        Py_END_ALLOW_THREADS if (r == 0) return PyBytes_FromStringAndSize(report, (Py_ssize_t)size);
        if (r == PISO_EDIED)
            return raise_ended(state, z);
        if (r != -ETIMEDOUT && r != -EINTR)
            return core_raise(state, r, "zygote");
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (!more)
            return PyErr_Format(state->call_timeout, "%R was not ready within %S seconds", z->name, timeout);
    }
}

static PyObject *zygote_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    Py_BEGIN_ALLOW_THREADS piso_zygote_close(((core_zygote *)self)->zygote);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *zygote_running(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    piso_exit status;
    int r = piso_process_wait(piso_zygote_process(((core_zygote *)self)->zygote), 0, &status);
    return PyBool_FromLong(r == 0 || r == -EINTR);
}

static PyObject *zygote_get_pid(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(piso_process_pid(piso_zygote_process(((core_zygote *)self)->zygote)));
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef zygote_methods[] = {
    {"spawn", KEYWORDS(zygote_spawn) | METH_CLASS, "Start the program of a zygote."},
    {"ready", KEYWORDS(zygote_ready), "Wait until it can fork; return its report."},
    {"running", zygote_running, METH_NOARGS, "Return whether its process runs."},
    {"close", zygote_close, METH_NOARGS, "End it; its children live on."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef zygote_getset[] = {
    {"pid", zygote_get_pid, NULL, "Process id.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot zygote_slots[] = {
    {Py_tp_doc, "A prewarmed process that forks extensions."},
    {Py_tp_methods, zygote_methods},
    {Py_tp_getset, zygote_getset},
    {Py_tp_dealloc, zygote_dealloc},
    {0, NULL},
};
static PyType_Spec zygote_spec = {
    .name = "pyisolate._core.Zygote",
    .basicsize = sizeof(core_zygote),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = zygote_slots,
};

/* ---- the zygote's process ---- */

static PyObject *guard(PyObject *module, PyObject *fd_object) {
    long fd = PyLong_AsLong(fd_object);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    int r = fd < 0 || fd > INT_MAX ? -EBADF : piso_zygote_guard((int)fd);
    return r < 0 ? core_raise(core_module_state(module), r, "zygote") : Py_NewRef(Py_None);
}

/* decoded: returns a list of str from C strings in the file system encoding. */
static PyObject *decoded(const char *const *strings) {
    PyObject *list = PyList_New(0);
    for (; list && *strings; strings++) {
        PyObject *text = PyUnicode_DecodeFSDefault(*strings);
        if (!text || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

/* forked: returns the result of serve in the child. */
static PyObject *forked(piso_fork *fork) {
    PyObject *argv = decoded(fork->argv), *envp = argv ? decoded(fork->envp) : NULL;
    PyObject *result = envp ? PyTuple_Pack(2, argv, envp) : NULL;
    Py_XDECREF(argv);
    Py_XDECREF(envp);
    piso_fork_fini(fork);
    return result;
}

/* serve: keeps the GIL, because there is no other thread. */
static PyObject *serve(PyObject *module, PyObject *args) {
    static const piso_fork_hooks hooks = {.size = sizeof hooks,
                                          .before = PyOS_BeforeFork,
                                          .in_parent = PyOS_AfterFork_Parent,
                                          .in_child = PyOS_AfterFork_Child};
    core_state *state = core_module_state(module);
    int fd;
    Py_buffer report;
    PyObject *idle;
    int64_t idle_ns;
    if (!PyArg_ParseTuple(args, "iy*O:serve_forks", &fd, &report, &idle))
        return NULL;
    if (core_timeout_from(idle, &idle_ns) < 0)
        return PyBuffer_Release(&report), NULL;
    int r = piso_zygote_report(fd, report.buf, (size_t)report.len);
    PyBuffer_Release(&report);
    if (r < 0)
        return core_raise(state, r, "zygote");
    piso_fork fork = {.size = sizeof fork};
    while ((r = piso_zygote_serve(fd, &hooks, idle_ns, &fork)) == -EINTR)
        if (PyErr_CheckSignals() < 0)
            return NULL;
    if (r == 1)
        return forked(&fork);
    return r < 0 ? core_raise(state, r, "zygote") : Py_NewRef(Py_None);
}

/* site_loaded: sets sys.flags in a process that was started with -S and has loaded site since: programs that it starts
 * get its flags. */
static PyObject *site_loaded(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    enum { NO_SITE = 6 }; /* debug, inspect, interactive, optimize, dont_write_bytecode, no_user_site, no_site */
    PyObject *flags = PySys_GetObject("flags"), *zero = flags ? PyLong_FromLong(0) : NULL;
    if (!zero)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *before = PyStructSequence_GetItem(flags, NO_SITE);
    PyStructSequence_SetItem(flags, NO_SITE, zero);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyObject *share_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(piso_zygote_share() == 0);
}

static PyObject *settle_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
#ifdef __GLIBC__
    malloc_trim(0); /* memory that only the start needed */
#endif
    return PyLong_FromLong(piso_fork_settle());
}

static PyObject *limit_shared_memory(PyObject *Py_UNUSED(module), PyObject *bytes) {
    unsigned long long most = PyLong_AsUnsignedLongLong(bytes);
    if (PyErr_Occurred())
        return NULL;
    piso_limit_shared_memory(most);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"zygote_guard", guard, METH_O, "From now on this process dies with its host."},
    {"serve_forks", serve, METH_VARARGS,
     "Fork at the host's requests; return (argv, environment) in each child, None at the end."},
    {"share_memory", share_memory, METH_NOARGS, "Let children release the memory that they did not change."},
    {"limit_shared_memory", limit_shared_memory, METH_O, "Set how many bytes of shared memory this process may have."},
    {"settle_memory", settle_memory, METH_NOARGS, "Release the memory that was not changed since the fork."},
    {"site_loaded", site_loaded, METH_NOARGS, "Let sys.flags say that site has been loaded."},
    {NULL, NULL, 0, NULL},
};

int core_zygote_init(PyObject *module, core_state *state) {
    state->zygote_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &zygote_spec, NULL);
    if (!state->zygote_type || PyModule_AddType(module, state->zygote_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
