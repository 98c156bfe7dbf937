/* misuse.c - see misuse.h. */
#include "misuse.h"

static int is_ours(PyObject *object) {
    PyNumberMethods *number = Py_TYPE(object)->tp_as_number;
    return number && number->nb_bool == core_misuse_bool;
}

static const char of_call[] = "the call of %R is not its result: write 'await' before it, or call it with '.sync'";
static const char of_method[] =
    "%R is a remote method, not a value: call it. The value of a remote attribute can only be returned by a method";

/* raise_misuse: raises the error and returns NULL. */
static PyObject *raise_misuse(PyObject *self, PyObject *type) {
    PyObject *name = PyObject_GetAttrString(self, "__name__");
    PyAsyncMethods *async = Py_TYPE(self)->tp_as_async;
    if (name)
        PyErr_Format(type, async && async->am_await ? of_call : of_method, name);
    Py_XDECREF(name);
    return NULL;
}

int core_misuse_bool(PyObject *self) {
    raise_misuse(self, PyExc_TypeError);
    return -1;
}

PyObject *core_misuse_unary(PyObject *self) {
    return raise_misuse(self, PyExc_TypeError);
}

PyObject *core_misuse_binary(PyObject *left, PyObject *right) {
    return raise_misuse(is_ours(left) ? left : right, PyExc_TypeError);
}

PyObject *core_misuse_ternary(PyObject *left, PyObject *right, PyObject *third) {
    return raise_misuse(is_ours(left) ? left : is_ours(right) ? right : third, PyExc_TypeError);
}

PyObject *core_misuse_compare(PyObject *left, PyObject *right, int operation) {
    if (operation == Py_EQ || operation == Py_NE)
        Py_RETURN_NOTIMPLEMENTED;
    return core_misuse_binary(left, right);
}

Py_ssize_t core_misuse_length(PyObject *self) {
    raise_misuse(self, PyExc_TypeError);
    return -1;
}

int core_misuse_assign(PyObject *self, PyObject *key, PyObject *value) {
    (void)key;
    (void)value;
    raise_misuse(self, PyExc_TypeError);
    return -1;
}

int core_misuse_contains(PyObject *self, PyObject *item) {
    (void)item;
    raise_misuse(self, PyExc_TypeError);
    return -1;
}

Py_hash_t core_misuse_hash(PyObject *self) {
    return PyBaseObject_Type.tp_hash(self);
}

PyObject *core_misuse_copy(PyObject *self, const char *why) {
    return PyErr_Format(PyExc_TypeError, "%R cannot be copied or pickled, because %s", self, why);
}

PyObject *core_misuse_attribute(PyObject *self, PyObject *name) {
    PyObject *found = PyObject_GenericGetAttr(self, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError) || !PyUnicode_Check(name) ||
        PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_READ_CHAR(name, 0) == '_')
        return found;
    PyErr_Clear(); /* replaced by the error below */
    return raise_misuse(self, PyExc_AttributeError);
}
