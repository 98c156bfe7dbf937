/* misuse.h - errors for a call or a method that is used like the value that it stands for. */
#ifndef BINDING_MISUSE_H
#define BINDING_MISUSE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* All of these raise a TypeError that names the call or method by its __name__ and says what to write instead. Equality
 * and hash are those of object. A type that `await` iterates keeps its iterator. */
int core_misuse_bool(PyObject *self);
PyObject *core_misuse_unary(PyObject *self);
PyObject *core_misuse_binary(PyObject *left, PyObject *right);
PyObject *core_misuse_ternary(PyObject *left, PyObject *right, PyObject *third);
PyObject *core_misuse_compare(PyObject *left, PyObject *right, int operation);
Py_ssize_t core_misuse_length(PyObject *self);
int core_misuse_assign(PyObject *self, PyObject *key, PyObject *value);
int core_misuse_contains(PyObject *self, PyObject *item);
Py_hash_t core_misuse_hash(PyObject *self);
/* core_misuse_copy: raises the TypeError of copy, deepcopy and pickle. `why`: the reason and the remedy. Returns
 * NULL. */
PyObject *core_misuse_copy(PyObject *self, const char *why);
/* CORE_REFUSE_COPIES: entries of a PyMethodDef table; the function has the signature of METH_O. */
#define CORE_REFUSE_COPIES(function)                                                                                   \
    {"__reduce__", function, METH_NOARGS, NULL}, {                                                                     \
        "__reduce_ex__", function, METH_O, NULL                                                                        \
    }
/* core_misuse_attribute: the type's tp_getattro; raises AttributeError for a missing public name. */
PyObject *core_misuse_attribute(PyObject *self, PyObject *name);

/* CORE_MISUSE_SLOTS: entries of a PyType_Slot table. */
#define CORE_MISUSE_SLOTS                                                                                              \
    {Py_nb_bool, core_misuse_bool}, {Py_nb_int, core_misuse_unary}, {Py_nb_float, core_misuse_unary},                  \
        {Py_nb_index, core_misuse_unary}, {Py_nb_negative, core_misuse_unary}, {Py_nb_positive, core_misuse_unary},    \
        {Py_nb_absolute, core_misuse_unary}, {Py_nb_invert, core_misuse_unary}, {Py_nb_add, core_misuse_binary},       \
        {Py_nb_subtract, core_misuse_binary}, {Py_nb_multiply, core_misuse_binary},                                    \
        {Py_nb_true_divide, core_misuse_binary}, {Py_nb_floor_divide, core_misuse_binary},                             \
        {Py_nb_remainder, core_misuse_binary}, {Py_nb_divmod, core_misuse_binary}, {Py_nb_power, core_misuse_ternary}, \
        {Py_nb_matrix_multiply, core_misuse_binary}, {Py_nb_lshift, core_misuse_binary},                               \
        {Py_nb_rshift, core_misuse_binary}, {Py_nb_and, core_misuse_binary}, {Py_nb_or, core_misuse_binary},           \
        {Py_nb_xor, core_misuse_binary}, {Py_tp_richcompare, core_misuse_compare}, {Py_tp_hash, core_misuse_hash},     \
        {Py_mp_length, core_misuse_length}, {Py_mp_subscript, core_misuse_binary},                                     \
        {Py_mp_ass_subscript, core_misuse_assign}, {Py_sq_contains, core_misuse_contains}, {                           \
        Py_tp_getattro, core_misuse_attribute                                                                          \
    }

#endif
