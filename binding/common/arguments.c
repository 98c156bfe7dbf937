/* arguments.c - see arguments.h. */
#include "arguments.h"

#define SLICE_NS 250000000 /* waits return this often to check for signals */

const char **core_string_array(PyObject *list) {
    Py_ssize_t n = PyList_GET_SIZE(list);
    const char **strings = PyMem_New(const char *, (size_t)n + 1);
    if (!strings)
        return PyErr_NoMemory(), NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        strings[i] = PyBytes_AsString(PyList_GET_ITEM(list, i));
        if (!strings[i]) {
            PyMem_Free(strings);
            return NULL;
        }
    }
    strings[n] = NULL;
    return strings;
}

PyObject *core_encode_list(PyObject *strings) {
    PyObject *items = PySequence_List(strings);
    for (Py_ssize_t i = 0; items && i < PyList_GET_SIZE(items); i++) {
        PyObject *encoded;
        if (!PyUnicode_FSConverter(PyList_GET_ITEM(items, i), &encoded))
            Py_CLEAR(items);
        else
            PyList_SetItem(items, i, encoded);
    }
    return items;
}

PyObject *core_environment_list(PyObject *mapping) {
    PyObject *items = PyMapping_Items(mapping), *list = items ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(items); i++) {
        PyObject *name, *value, *text = NULL;
        if (PyArg_ParseTuple(PyList_GET_ITEM(items, i), "UU", &name, &value))
            text = PyUnicode_FromFormat("%U=%U", name, value);
        if (!text || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    Py_XDECREF(items);
    PyObject *encoded = list ? core_encode_list(list) : NULL;
    Py_XDECREF(list);
    return encoded;
}

int core_timeout_from(PyObject *seconds, int64_t *ret_ns) {
    *ret_ns = -1;
    if (!seconds || seconds == Py_None)
        return 0;
    double value = PyFloat_AsDouble(seconds);
    if (PyErr_Occurred())
        return -1;
    *ret_ns = value <= 0 ? 0 : value > 4e6 ? -1 : (int64_t)(value * 1e9);
    return 0;
}

bool core_next_slice(int64_t end_ns, int64_t *ret_ns) {
    *ret_ns = SLICE_NS;
    if (end_ns < 0)
        return true;
    int64_t left = end_ns - piso_now_ns();
    if (left < *ret_ns)
        *ret_ns = left < 0 ? 0 : left;
    return left > 0;
}
