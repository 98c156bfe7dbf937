/* texts.c - lists of text as one buffer and offsets, for columns of objects in the data frames of pandas. */
#include <string.h>

#include "custom.h"

/* text_of: returns the UTF-8 of a str: of ASCII the str's own, else a new object's, which is stored in *ret_owner. */
static const char *text_of(PyObject *item, Py_ssize_t *ret_size, PyObject **ret_owner) {
    *ret_owner = NULL;
    if (!PyUnicode_CheckExact(item)) {
        PyErr_Format(PyExc_TypeError, "a str was expected, not '%.200s'", Py_TYPE(item)->tp_name);
        return NULL;
    }
    if (PyUnicode_IS_COMPACT_ASCII(item)) {
        *ret_size = PyUnicode_GET_LENGTH(item);
        return (const char *)PyUnicode_1BYTE_DATA(item);
    }
    *ret_owner = PyUnicode_AsUTF8String(item); /* the str itself would keep it */
    *ret_size = *ret_owner ? PyBytes_GET_SIZE(*ret_owner) : 0;
    return *ret_owner ? PyBytes_AS_STRING(*ret_owner) : NULL;
}

/* append: appends bytes to a bytearray that is `*used` bytes full. Returns 0 or -1. */
static int append(PyObject *array, Py_ssize_t *used, const char *data, Py_ssize_t size) {
    Py_ssize_t room = PyByteArray_GET_SIZE(array);
    if (size > room - *used && PyByteArray_Resize(array, room + room / 2 + size + 4096) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(array) + *used, data, (size_t)size);
    *used += size;
    return 0;
}

static PyObject *join_texts(PyObject *Py_UNUSED(module), PyObject *list) {
    if (!PyList_CheckExact(list))
        return PyErr_Format(PyExc_TypeError, "join_texts takes a list");
    Py_ssize_t count = PyList_GET_SIZE(list), used = 0;
    PyObject *text = PyByteArray_FromStringAndSize(NULL, 0);
    PyObject *offsets = text ? PyByteArray_FromStringAndSize(NULL, (count + 1) * (Py_ssize_t)sizeof(int64_t)) : NULL;
    bool good = offsets;
    for (Py_ssize_t i = 0; good; i++) {
        memcpy(PyByteArray_AS_STRING(offsets) + i * (Py_ssize_t)sizeof(int64_t), &(int64_t){used}, sizeof(int64_t));
        if (i == count)
            break;
        PyObject *owner;
        Py_ssize_t size;
        const char *data = text_of(PyList_GET_ITEM(list, i), &size, &owner);
        good = data && append(text, &used, data, size) == 0;
        Py_XDECREF(owner);
    }
    good = good && PyByteArray_Resize(text, used) == 0;
    PyObject *pair = good ? PyTuple_Pack(2, text, offsets) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(offsets);
    return pair;
}

/* split: `offsets` has `count` + 1 numbers. */
static PyObject *split(const char *text, Py_ssize_t size, const char *offsets, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    int64_t start, end;
    memcpy(&end, offsets, sizeof end);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        start = end;
        memcpy(&end, offsets + (i + 1) * (Py_ssize_t)sizeof end, sizeof end);
        PyObject *item = NULL;
        if (start < 0 || end < start || end > size)
            PyErr_SetString(PyExc_ValueError, "offsets that are not inside the text");
        else
            item = PyUnicode_DecodeUTF8(text + start, (Py_ssize_t)(end - start), NULL);
        if (item)
            PyList_SET_ITEM(list, i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *split_texts(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *text, *offsets;
    if (!PyArg_ParseTuple(args, "SS:split_texts", &text, &offsets)) /* bytes: they cannot change meanwhile */
        return NULL;
    Py_ssize_t count = PyBytes_GET_SIZE(offsets) / (Py_ssize_t)sizeof(int64_t) - 1;
    if (count < 0)
        return PyErr_Format(PyExc_ValueError, "split_texts needs an offset at least");
    return split(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), PyBytes_AS_STRING(offsets), count);
}

static PyMethodDef functions[] = {
    {"join_texts", join_texts, METH_O,
     "join_texts(list) -> (bytearray, bytearray)\n\nReturn the UTF-8 of texts, one after another, and the offsets of "
     "their ends as 64-bit integers, after a 0."},
    {"split_texts", split_texts, METH_VARARGS,
     "split_texts(bytes, offsets) -> list\n\nReturn the texts that join_texts joined. Offsets and text are checked."},
    {NULL, NULL, 0, NULL},
};

int core_texts_init(PyObject *module) {
    return PyModule_AddFunctions(module, functions);
}
