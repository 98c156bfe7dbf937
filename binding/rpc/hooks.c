/* hooks.c - Python functions of the package that a session calls (hooks.h). */
#include "hooks.h"

/* core_session_on_error: on_error(hook). */
PyObject *core_session_on_error(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->error_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

/* core_session_on_end: on_end(hook). */
PyObject *core_session_on_end(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->end_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_report_end(core_session *s) {
    int state = piso_session_state(s->session);
    PyObject *hook = state == PISO_EDIED || state == PISO_EPROTO ? Py_XNewRef(s->end_hook) : NULL;
    if (!hook)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallNoArgs(hook);
    if (!done)
        PyErr_WriteUnraisable(hook);
    Py_XDECREF(done);
    Py_DECREF(hook);
    PyErr_Restore(type, value, traceback);
}

/* core_session_on_plain: on_plain(hook). */
PyObject *core_session_on_plain(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->threads_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

/* core_session_on_copy: on_copy(hook). */
PyObject *core_session_on_copy(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->fork_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_annotate(core_session *s, PyObject *exception) {
    PyObject *hook = Py_XNewRef(s->error_hook);
    PyObject *done = hook ? PyObject_CallOneArg(hook, exception) : NULL;
    PyErr_Clear(); /* the exception is sent anyway, without the note */
    Py_XDECREF(done);
    Py_XDECREF(hook);
}

/* core_session_on_refused: on_refused(hook). */
PyObject *core_session_on_refused(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->refusal_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_annotate_refused(core_session *s, PyObject *exception) {
    piso_process *process = s->refusal_hook ? piso_session_process(s->session) : NULL;
    int64_t total = process ? piso_process_refused(process) : 0;
    if (total <= s->refused)
        return;
    s->refused = total;
    PyObject *hook = Py_NewRef(s->refusal_hook), *done = PyObject_CallOneArg(hook, exception);
    PyErr_Clear(); /* it is raised anyway, without the note */
    Py_XDECREF(done);
    Py_DECREF(hook);
}
