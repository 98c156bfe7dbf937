/* functions.c - see functions.h. */
#include "functions.h"

#include "common/interruption.h"
#include "common/printable.h"

static _Thread_local unsigned inside; /* calls of encode and decode functions in this thread */

int core_refuse_in_function(void) {
    if (!inside)
        return 0;
    PyErr_SetString(PyExc_RuntimeError,
                    "a call cannot be made inside an encode or decode function: its value is part of a message that "
                    "is being converted; make the call before the value is sent, or after it was received");
    return -1;
}

static PyObject *call(core_state *state, PyObject *function, PyObject *value) {
    state->converting++;
    inside++;
    PyObject *result = PyObject_CallOneArg(function, value);
    inside--;
    state->converting--;
    return result;
}

/* would_stop: returns whether the exception means something to whoever runs the code, and not that the code failed. */
static bool would_stop(PyObject *error) {
    return !PyErr_GivenExceptionMatches(error, PyExc_Exception) ||
           PyErr_GivenExceptionMatches(error, PyExc_StopIteration) ||
           PyErr_GivenExceptionMatches(error, PyExc_StopAsyncIteration);
}

/* replace: returns a RuntimeError in place of an exception, which becomes its cause and whose reference is stolen. */
static PyObject *replace(PyObject *error, const char *which, PyObject *name) {
    PyErr_Format(PyExc_RuntimeError, "the %s function of %R raised %.200s", which, name, Py_TYPE(error)->tp_name);
    PyObject *replacement = core_fetch_exception();
    PyException_SetContext(replacement, Py_NewRef(error));
    PyException_SetCause(replacement, error);
    return replacement;
}

static void add_note(PyObject *error, const char *which, PyObject *name) {
    PyObject *text = PyUnicode_FromFormat("raised by the %s function of %R (pyisolate.register_type)", which, name);
    PyObject *done = text ? PyObject_CallMethod(error, "add_note", "O", text) : NULL;
    PyErr_Clear(); /* Python 3.10 has no notes */
    Py_XDECREF(text);
    Py_XDECREF(done);
}

/* failed: replaces or annotates the current exception. */
static void failed(const core_codec *c, const char *which, PyObject *name, bool received) {
    PyObject *error = core_fetch_exception();
    if (PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt)) {
        if (!received) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
            return;
        }
        if (core_is_main_thread() && c->session && piso_session_process(c->session))
            core_keep_interruption(c->state, error);
    }
    if (would_stop(error))
        error = replace(error, which, name);
    else
        add_note(error, which, name);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

PyObject *core_call_encode(core_encoder *e, PyObject *function, PyObject *name, PyObject *value) {
    PyObject *result = call(e->codec->state, function, value);
    if (!result)
        failed(e->codec, "encode", name, !e->exceptions);
    return result;
}

PyObject *core_call_decode(core_decoder *d, PyObject *function, PyObject *name, PyObject *value) {
    PyObject *result = call(d->codec->state, function, value);
    if (!result) {
        failed(d->codec, "decode", name, false);
        d->failed = true;
    }
    return result;
}
