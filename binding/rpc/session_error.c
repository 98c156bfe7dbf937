/* session_error.c - the exception for a negative code of a session. */
#include "session_error.h"
#include "hooks.h"

#include <errno.h>

#define TAIL_SIZE 16384 /* of stderr, in an error */

/* core_session_explain: explain(note, hung=False). */
PyObject *core_session_explain(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"note", "hung", NULL};
    core_session *s = (core_session *)self;
    PyObject *note;
    int hung = s->hung;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$p:explain", names, &note, &hung))
        return NULL;
    Py_XSETREF(s->end_note, Py_NewRef(note));
    s->hung = hung != 0;
    Py_RETURN_NONE;
}

PyObject *core_session_error(core_session *s, int error, const core_pending *pending) {
    if (error == -ETIMEDOUT && pending && !pending->timeout_ns)
        return PyErr_Format(s->state->call_timeout,
                            "the call of %R of %R did not finish within the time of the call that is being handled",
                            pending->name, s->name);
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
    core_session_report_end(s);
    piso_process *process = piso_session_process(s->session);
    const char *name = PyUnicode_AsUTF8(s->name);
    if (!name)
        return NULL;
    const char *fault = error == PISO_EPROTO ? piso_session_fault(s->session) : NULL;
    if (fault)
        return PyErr_Format(s->state->protocol_error, "%s: the peer was disconnected: %s", name, fault);
    if (error != PISO_EDIED)
        return core_raise(s->state, error, name);
    piso_exit status = {.known = false, .code = -1};
    char tail[TAIL_SIZE];
    size_t size = 0;
    int pid = 0;
    uint64_t memory_exceeded = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS piso_process_wait(
            process, 50000000, &status); /* a child that has closed its session may still be exiting */
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
