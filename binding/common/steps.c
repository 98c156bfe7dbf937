/* steps.c - see steps.h. */
#include "steps.h"

PyObject *core_stop_iteration(PyObject *value) {
    /* a tuple or an exception given as the type's argument would be unpacked */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    Py_DECREF(value);
    return NULL;
}

PyObject *core_step_outcome(PySendResult r, PyObject *value) {
    return r == PYGEN_RETURN ? core_stop_iteration(value) : value;
}
