/* enums.c - members of registered enums: by name, or, combinations of flags, by value.
 *
 * Python caches each combination of flags for ever. A peer may send any number, so only bits that the class defines are
 * combined, and only some combinations stay in the cache. Integer flags other than those are not cached. Combinations
 * of a plain Flag are equal only if they are the same object, so they are cached while somebody uses them. Members are
 * looked up only in the class's tables, because any other look-up calls the class's _missing_. */
#include "codec/quota.h"
#include "codec/registry.h"
#include "std.h"

#define UNUSED_COMBINATIONS 1024 /* that are not removed */

/* members_of: returns a dict of the class; a new reference. */
static PyObject *members_of(PyObject *cls, const char *name) {
    PyObject *map = PyObject_GetAttrString(cls, name);
    if (map && !PyDict_Check(map)) {
        PyErr_Format(PyExc_TypeError, "%R has no members", cls);
        Py_CLEAR(map);
    }
    return map;
}

/* is_listed: returns whether a member has a name in the class, and is no combination: 1, 0, -1. */
static int is_listed(PyObject *by_name, PyObject *member) {
    PyObject *name = PyObject_GetAttrString(member, "_name_");
    PyObject *listed = name && PyUnicode_CheckExact(name) ? PyDict_GetItemWithError(by_name, name) : NULL;
    Py_XDECREF(name);
    return PyErr_Occurred() ? -1 : listed == member;
}

int core_encode_member(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *by_name = members_of((PyObject *)Py_TYPE(value), "_member_map_");
    int r = by_name ? is_listed(by_name, value) : -1;
    PyObject *sent = r < 0 ? NULL : PyObject_GetAttrString(value, r ? "_name_" : "_value_");
    r = sent ? core_encode(e, sent, path) : -1;
    Py_XDECREF(by_name);
    Py_XDECREF(sent);
    return r;
}

/* ---- combinations ---- */

/* is_negative: returns 1, 0, -1 for an int. */
static int is_negative(PyObject *number) {
    PyObject *zero = PyLong_FromLong(0);
    int r = zero ? PyObject_RichCompareBool(number, zero, Py_LT) : -1;
    Py_XDECREF(zero);
    return r;
}

/* mask_of: returns the bits of all members. */
static PyObject *mask_of(PyObject *by_name) {
    PyObject *mask = PyLong_FromLong(0), *name, *member;
    Py_ssize_t position = 0;
    while (mask && PyDict_Next(by_name, &position, &name, &member)) {
        PyObject *value = PyObject_GetAttrString(member, "_value_");
        if (!value || !PyLong_Check(value) || is_negative(value) != 0)
            PyErr_Clear(); /* it has no bits */
        else
            Py_SETREF(mask, PyNumber_Or(mask, value));
        Py_XDECREF(value);
    }
    return mask;
}

/* fitting: returns the number as the class represents it, if it has only bits of the mask. For a negative number, as on
 * Python 3.10, the inverted bits count. NULL without an exception if it has other bits. */
static PyObject *fitting(PyObject *number, PyObject *mask) {
    int negative = is_negative(number);
    PyObject *bits = negative < 0 ? NULL : negative ? PyNumber_Invert(number) : Py_NewRef(number), *fits = NULL;
    PyObject *others = bits ? PyNumber_Invert(mask) : NULL, *excess = others ? PyNumber_And(bits, others) : NULL;
    int exceeds = excess ? PyObject_IsTrue(excess) : -1;
    if (exceeds == 0)
        fits = negative && PY_VERSION_HEX >= 0x030b0000 ? PyNumber_And(number, mask) : Py_NewRef(number);
    Py_XDECREF(bits);
    Py_XDECREF(others);
    Py_XDECREF(excess);
    return fits;
}

/* unused: returns the values of combinations that only the class refers to. */
static PyObject *unused(PyObject *by_name, PyObject *by_value) {
    PyObject *list = PyList_New(0), *value, *member;
    Py_ssize_t position = 0;
    while (list && PyDict_Next(by_value, &position, &value, &member)) {
        if (Py_REFCNT(member) > 1)
            continue;
        int listed = is_listed(by_name, member);
        if (listed < 0 || (!listed && PyList_Append(list, value) < 0))
            Py_CLEAR(list);
    }
    return list;
}

/* prune: removes unused combinations from the class, when there are many more than the last time. Returns 0 or -1. */
static int prune(core_decoder *d, PyObject *cls, PyObject *by_name, PyObject *by_value) {
    PyObject *notes = core_registry_combinations(d->codec->registry), *note = PyDict_GetItemWithError(notes, cls);
    Py_ssize_t before = note ? PyLong_AsSsize_t(note) : PyDict_GET_SIZE(by_name);
    if (PyErr_Occurred() || PyDict_GET_SIZE(by_value) <= 2 * before + UNUSED_COMBINATIONS)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *values = unused(by_name, by_value);
    int r = values ? 0 : -1;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(values); i++)
        r = PyDict_DelItem(by_value, PyList_GET_ITEM(values, i));
    Py_XDECREF(values);
    note = r == 0 ? PyLong_FromSsize_t(PyDict_GET_SIZE(by_value)) : NULL;
    r = note ? PyDict_SetItem(notes, cls, note) : -1;
    Py_XDECREF(note);
    return r;
}

/* forget: removes a new combination from a class of integers, whose members are equal by value. Returns 0 or -1. */
static int forget(PyObject *by_name, PyObject *by_value, PyObject *member) {
    PyObject *value = PyObject_GetAttrString(member, "_value_");
    int r = value ? is_listed(by_name, member) : -1;
    if (r == 0 && PyDict_GetItemWithError(by_value, value) == member)
        r = PyDict_DelItem(by_value, value);
    Py_XDECREF(value);
    return PyErr_Occurred() ? -1 : 0;
}

/* limit: bounds what the class caches. Returns 0 or -1. */
static int limit(core_decoder *d, PyObject *cls, PyObject *by_name, PyObject *by_value, PyObject *member) {
    if (PyDict_GET_SIZE(by_value) <= PyDict_GET_SIZE(by_name) + UNUSED_COMBINATIONS)
        return 0;
    return PyLong_Check(member) ? forget(by_name, by_value, member) : prune(d, cls, by_name, by_value);
}

/* combine: creates a combination that the class has not cached. */
static PyObject *combine(core_decoder *d, PyObject *cls, PyObject *number, PyObject *by_name, PyObject *by_value) {
    bool is_int = PyType_IsSubtype((PyTypeObject *)cls, &PyLong_Type);
    if (!core_charge(d, is_int ? CORE_COST_INT_COMBINATION : CORE_COST_COMBINATION))
        return NULL;
    PyObject *mask = mask_of(by_name), *value = mask ? fitting(number, mask) : NULL;
    PyObject *member = value ? PyObject_CallOneArg(cls, value) : NULL;
    if (!value && !PyErr_Occurred())
        core_cannot_decode(
            d, PyExc_ValueError,
            "the peer sent flags that %R does not define in this process; both processes need the same class", cls);
    if (member && limit(d, cls, by_name, by_value, member) < 0)
        Py_CLEAR(member);
    Py_XDECREF(mask);
    Py_XDECREF(value);
    return member;
}

/* is_flag: returns whether the members of a class can be combined: 1, 0, -1. */
static int is_flag(PyObject *cls) {
    PyObject *module = PyImport_ImportModule("enum"), *flag = module ? PyObject_GetAttrString(module, "Flag") : NULL;
    int r = flag ? PyObject_IsSubclass(cls, flag) : -1;
    Py_XDECREF(module);
    Py_XDECREF(flag);
    return r;
}

static PyObject *find_value(core_decoder *d, PyObject *cls, PyObject *value, PyObject *by_name) {
    PyObject *by_value = members_of(cls, "_value2member_map_");
    PyObject *member = by_value ? Py_XNewRef(PyDict_GetItemWithError(by_value, value)) : NULL;
    if (by_value && !member && !PyErr_Occurred() && PyLong_CheckExact(value) && is_flag(cls) > 0)
        member = combine(d, cls, value, by_name, by_value);
    Py_XDECREF(by_value);
    return member;
}

PyObject *core_decode_member(core_decoder *d, PyObject *cls, PyObject *key) {
    PyObject *by_name = members_of(cls, "_member_map_"), *member = NULL;
    if (by_name && PyUnicode_CheckExact(key))
        member = Py_XNewRef(PyDict_GetItemWithError(by_name, key));
    else if (by_name)
        member = find_value(d, cls, key, by_name);
    Py_XDECREF(by_name);
    if (!member && !PyErr_Occurred())
        core_cannot_decode(
            d, PyExc_LookupError,
            "the peer sent a member that %R does not define in this process: %.200R; both need the same class", cls,
            key);
    return member;
}
