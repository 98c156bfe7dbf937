/* faults.c - the errors of a message: the peer broke the protocol, which ends the session, or sent what this process
 * cannot decode, which fails one call. */
#include <string.h>

#include "common/printable.h"
#include "converter.h"

#define SENDER     "the peer"
#define MALFORMED  SENDER " sent a malformed message: "
#define MAX_REASON 300 /* characters of a constructor's message */

void *core_malformed(core_decoder *d, const char *what) {
    if (!PyErr_Occurred()) {
        PyErr_Format(d->codec->state->protocol_error, MALFORMED "%s", what);
        d->malformed = true;
    }
    return NULL;
}

void *core_cannot_decode(core_decoder *d, PyObject *type, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (!PyErr_Occurred()) {
        PyErr_FormatV(type, format, arguments);
        d->failed = true;
    }
    va_end(arguments);
    return NULL;
}

void *core_constructor_failed(core_decoder *d) {
    if (d->malformed || d->failed ||
        (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError) &&
         !PyErr_ExceptionMatches(PyExc_ArithmeticError)))
        return NULL;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *text = PyObject_Str(value ? value : type), *reason = text ? core_name(text, MAX_REASON, false) : NULL;
    if (reason) {
        PyErr_Format(d->codec->state->protocol_error, MALFORMED "%U", reason);
        d->malformed = true;
    }
    Py_XDECREF(text);
    Py_XDECREF(reason);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return NULL;
}

void core_reject(core_codec *c) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *text = value ? PyObject_Str(value) : NULL;
    const char *fault = text ? PyUnicode_AsUTF8(text) : NULL;
    char reason[sizeof SENDER + MAX_REASON];
    PyOS_snprintf(reason, sizeof reason, "it%s",
                  fault && strncmp(fault, SENDER, sizeof SENDER - 1) == 0 ? fault + sizeof SENDER - 1
                                                                          : " broke the protocol");
    if (c->session)
        piso_session_reject(c->session, reason);
    Py_XDECREF(text);
    PyErr_Clear(); /* out of memory: the session ends without a reason */
    PyErr_Restore(type, value, traceback);
}
