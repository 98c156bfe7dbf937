/* exceptions_reduce.c - the parts of an exception that are sent to a confined peer: type and text (exceptions.h).
 *
 * The host's exceptions hold data that is not meant for an extension: source lines in tracebacks, earlier exceptions in
 * causes and contexts, anything in attributes, and in arguments more than their text shows. */
#include "codec/registry.h"
#include "exceptions.h"

#define MAX_DEPTH       3
#define MAX_CONVERTIBLE 65536 /* bytes or characters of the object of a UnicodeError */

bool core_is_sent_whole(core_codec *c, PyObject *exception) {
    return !c->text_only || core_registry_exception(c->registry, Py_TYPE(exception)) != NULL;
}

bool core_is_builtin_exception(PyTypeObject *type) {
    PyObject *module = core_attribute((PyObject *)type, "__module__");
    bool builtin = module && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins") == 0 &&
                   PyDict_GetItemString(PyEval_GetBuiltins(), _PyType_Name(type)) == (PyObject *)type;
    Py_XDECREF(module);
    return builtin;
}

/* is_plain: returns whether a value holds no more than its repr() shows. */
static bool is_plain(PyObject *value, int depth) {
    if (PyTuple_CheckExact(value) && depth < MAX_DEPTH) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++)
            if (!is_plain(PyTuple_GET_ITEM(value, i), depth + 1))
                return false;
        return true;
    }
    return value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
           PyUnicode_CheckExact(value) || PyBytes_CheckExact(value);
}

/* text_only: returns the text of an exception as its only argument, or no argument. */
static PyObject *text_only(PyObject *exception) {
    PyObject *text = PyObject_Str(exception);
    if (!text)
        PyErr_Clear(); /* a __str__ that raises */
    PyObject *args = text && PyUnicode_GET_LENGTH(text) ? PyTuple_Pack(1, text) : PyTuple_New(0);
    Py_XDECREF(text);
    return args;
}

/* plain_args: replaces each argument that holds more than its text by that text. */
static PyObject *plain_args(PyObject *exception, PyObject *args) {
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if (count == 1 && !is_plain(PyTuple_GET_ITEM(args, 0), 0))
        return text_only(exception);
    PyObject *reduced = PyTuple_New(count);
    for (Py_ssize_t i = 0; reduced && i < count; i++) {
        PyObject *arg = PyTuple_GET_ITEM(args, i);
        PyObject *item = is_plain(arg, 0) ? Py_NewRef(arg) : PyObject_Repr(arg);
        if (!item) {
            PyErr_Clear(); /* a repr that raises */
            item = PyUnicode_FromFormat("<%.200s>", Py_TYPE(arg)->tp_name);
        }
        if (item)
            PyTuple_SET_ITEM(reduced, i, item);
        else
            Py_CLEAR(reduced);
    }
    return reduced;
}

/* masked: returns bytes or text of which only [start, end) is kept. */
static PyObject *masked(PyObject *whole, Py_ssize_t start, Py_ssize_t end) {
    if (PyBytes_CheckExact(whole)) {
        PyObject *copy = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(whole));
        for (Py_ssize_t i = 0; copy && i < PyBytes_GET_SIZE(whole); i++)
            PyBytes_AS_STRING(copy)[i] = i >= start && i < end ? PyBytes_AS_STRING(whole)[i] : '?';
        return copy;
    }
    PyObject *mark = PyUnicode_FromString("?"), *before = mark ? PySequence_Repeat(mark, start) : NULL;
    PyObject *rest = before ? PyUnicode_Substring(whole, start, end) : NULL;
    PyObject *copy = rest ? PyUnicode_Concat(before, rest) : NULL;
    Py_XDECREF(mark);
    Py_XDECREF(before);
    Py_XDECREF(rest);
    return copy;
}

/* unicode_args: returns the arguments of a UnicodeError, or its text alone where they are not as expected. */
static PyObject *unicode_args(PyObject *exception, PyObject *args) {
    Py_ssize_t count = PyTuple_GET_SIZE(args), at = count - 4; /* the object; before it the encoding, or nothing */
    PyObject *whole = at >= 0 && at <= 1 ? PyTuple_GET_ITEM(args, at) : NULL;
    Py_ssize_t size = !whole                        ? -1
                      : PyBytes_CheckExact(whole)   ? PyBytes_GET_SIZE(whole)
                      : PyUnicode_CheckExact(whole) ? PyUnicode_GET_LENGTH(whole)
                                                    : -1;
    if (size < 0 || size > MAX_CONVERTIBLE)
        return text_only(exception);
    Py_ssize_t start = PyLong_AsSsize_t(PyTuple_GET_ITEM(args, at + 1));
    Py_ssize_t end = PyLong_AsSsize_t(PyTuple_GET_ITEM(args, at + 2));
    PyErr_Clear(); /* not integers: then they are -1 */
    if (start < 0 || end <= start || end > size)
        return text_only(exception);
    PyObject *rest = masked(whole, start, end), *list = rest ? PySequence_List(args) : NULL;
    if (list)
        PyList_SetItem(list, at, Py_NewRef(rest)); /* takes it; cannot fail */
    PyObject *reduced = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    Py_XDECREF(rest);
    return reduced;
}

static bool is_group(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030b0000
    return PyErr_GivenExceptionMatches(exception, PyExc_BaseExceptionGroup);
#else
    (void)exception;
    return false;
#endif
}

PyObject *core_reduced_args(PyObject *exception) {
    PyObject *args = core_is_builtin_exception(Py_TYPE(exception)) ? core_attribute(exception, "args") : NULL, *reduced;
    if (!args || !PyTuple_CheckExact(args) || PyErr_GivenExceptionMatches(exception, PyExc_SyntaxError))
        reduced = text_only(exception); /* a SyntaxError has the line of source among its arguments */
    else if (PyErr_GivenExceptionMatches(exception, PyExc_UnicodeError) && PyTuple_GET_SIZE(args) > 1)
        reduced = unicode_args(exception, args);
    else if (is_group(exception))
        reduced = Py_NewRef(args); /* the exceptions in it are reduced separately */
    else
        reduced = plain_args(exception, args);
    Py_XDECREF(args);
    return reduced;
}

PyObject *core_reduced_attributes(PyObject *exception) {
    PyObject *reduced = PyDict_New();
    if (reduced && core_is_builtin_exception(Py_TYPE(exception)) &&
        PyErr_GivenExceptionMatches(exception, PyExc_OSError) && core_fields_add(exception, reduced) < 0)
        Py_CLEAR(reduced);
    return reduced;
}
