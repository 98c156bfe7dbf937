/* supervision.c - methods of Session with which the package supervises an extension: its output, whether it still takes
 * messages, and the system calls that its sandbox has refused. */
#include "spawn.h"

#define OUTPUT_CHUNK    16384
#define OUTPUTS_AT_ONCE 64

static PyObject *session_progress(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    uint64_t sent, taken;
    Py_BEGIN_ALLOW_THREADS piso_session_progress(s->session, &sent, &taken);
    Py_END_ALLOW_THREADS return Py_BuildValue("(KK)", (unsigned long long)sent, (unsigned long long)taken);
}

/* ---- refused system calls ---- */

#define KINDS_AT_ONCE 32

/* session_refusals: refusals(). */
static PyObject *session_refusals(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    piso_process *process = piso_session_process(((core_session *)self)->session);
    int64_t total = process ? piso_process_refused(process) : -ENOSYS;
    if (total == -ENOSYS)
        Py_RETURN_NONE;
    piso_refusal kinds[KINDS_AT_ONCE];
    size_t n = process ? piso_process_refusals(process, kinds, KINDS_AT_ONCE) : 0;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < n; i++) {
        const piso_refusal *k = &kinds[i];
        PyObject *item = Py_BuildValue("(zI(II)iK)", k->call, k->number, k->arguments[0], k->arguments[1], k->error,
                                       (unsigned long long)k->count);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* ---- output ---- */

/* session_follow_output: follow_output(cookie). */
static PyObject *session_follow_output(PyObject *self, PyObject *cookie_object) {
    uint64_t cookie = PyLong_AsUnsignedLongLong(cookie_object);
    if (PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    if (process)
        piso_process_follow(process, cookie);
    Py_RETURN_NONE;
}

static PyObject *session_echo_dropped(PyObject *self, PyObject *stream) {
    long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    return PyLong_FromUnsignedLongLong(process ? piso_process_echo_dropped(process, (int)number) : 0);
}

/* session_read_output: read_output(stream) -> (bytes, dropped). */
static PyObject *session_read_output(PyObject *self, PyObject *stream) {
    long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    char buffer[OUTPUT_CHUNK];
    uint64_t dropped = 0;
    size_t size = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS size = piso_process_read_output(process, (int)number, buffer, sizeof buffer, &dropped);
        Py_END_ALLOW_THREADS
    }
    return Py_BuildValue("(y#K)", buffer, (Py_ssize_t)size, (unsigned long long)dropped);
}

/* ---- the output of all processes ---- */

static PyObject *output_fd(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    int fd = piso_output_fd();
    return fd < 0 ? core_raise(core_module_state(module), fd, "output of extensions") : PyLong_FromLong(fd);
}

static PyObject *output_next(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    uint64_t cookies[OUTPUTS_AT_ONCE];
    size_t count = piso_output_next(cookies, OUTPUTS_AT_ONCE);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *cookie = PyLong_FromUnsignedLongLong(cookies[i]);
        if (!cookie)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, cookie);
    }
    return list;
}

static PyMethodDef functions[] = {
    {"output_fd", output_fd, METH_NOARGS,
     "Return a file descriptor that is readable while output_next has something to return."},
    {"output_next", output_next, METH_NOARGS,
     "Return the cookies of processes that have written output, or have ended."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef methods[] = {
    {"follow_output", session_follow_output, METH_O, "Set the cookie that output_next returns for it; 0: none."},
    {"read_output", session_read_output, METH_O, "Return output of the child, and how many bytes after it were lost."},
    {"echo_dropped", session_echo_dropped, METH_O,
     "Return how many bytes of an output were not echoed since the last call."},
    {"progress", session_progress, METH_NOARGS, "Return how many slots were sent, and how many the peer has taken."},
    {"refusals", session_refusals, METH_NOARGS,
     "Return the system calls that the child's sandbox has refused, or None."},
    {NULL, NULL, 0, NULL},
};

int core_supervision_init(PyObject *module, core_state *state) {
    return core_session_add(state, methods, NULL) < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
