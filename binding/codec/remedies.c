/* remedies.c - the base as which a value of a subclass is sent, and what to do about values that cannot be sent. */
#include <string.h>

#include "remedies.h"
#include "tables.h"

/* is_instance: tests against a class of a module, if that module is imported. */
static bool is_instance(PyObject *value, const char *module_name, const char *name) {
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), module_name);
    PyObject *cls = module ? PyObject_GetAttrString(module, name) : NULL;
    bool is = cls && PyType_Check(cls) && PyType_IsSubtype(Py_TYPE(value), (PyTypeObject *)cls);
    Py_XDECREF(cls);
    PyErr_Clear(); /* the module is being imported, or is another module of that name */
    return is;
}

/* ---- subclasses ---- */

/* overrides: returns whether a class redefines a name of its base. */
static bool overrides(PyTypeObject *cls, PyTypeObject *base, const char *text) {
    PyObject *name = PyUnicode_FromString(text);
    bool differs = !name || _PyType_Lookup(cls, name) != _PyType_Lookup(base, name);
    Py_XDECREF(name);
    PyErr_Clear(); /* out of memory counts as overridden, so the value is refused */
    return differs;
}

/* is_opaque: returns whether a container may show other items than its base stores. */
static bool is_opaque(PyTypeObject *cls, PyTypeObject *base) {
    static const char *const names[] = {"__iter__", "__len__", "__getitem__", "keys", "items"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (overrides(cls, base, names[i]))
            return true;
    return false;
}

/* has_known_base: returns whether a class derives from one with its own encoding, like OrderedDict, which would be
 * lost. */
static bool has_known_base(core_state *state, PyTypeObject *cls, PyTypeObject *base) {
    PyObject *mro = cls->tp_mro;
    for (Py_ssize_t i = 1; mro && i < PyTuple_GET_SIZE(mro) && PyTuple_GET_ITEM(mro, i) != (PyObject *)base; i++)
        if (core_encoder_of(state, (PyTypeObject *)PyTuple_GET_ITEM(mro, i)))
            return true;
    return false;
}

PyTypeObject *core_sent_base(core_encoder *e, PyObject *value, core_class_kind kind) {
    static PyTypeObject *const scalars[] = {&PyUnicode_Type, &PyLong_Type, &PyFloat_Type, &PyBytes_Type};
    static PyTypeObject *const containers[] = {&PyList_Type, &PyTuple_Type, &PyDict_Type, &PySet_Type};
    PyTypeObject *cls = Py_TYPE(value);
    if (e->codec->refuse_subclasses || kind == CORE_DATACLASS || PyExceptionInstance_Check(value) ||
        is_instance(value, "numpy", "generic") || is_instance(value, "torch", "Size"))
        return NULL;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
        if (PyType_IsSubtype(cls, scalars[i]))
            return has_known_base(e->codec->state, cls, scalars[i]) ? NULL : scalars[i];
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++)
        if (PyType_IsSubtype(cls, containers[i]))
            return is_opaque(cls, containers[i]) || has_known_base(e->codec->state, cls, containers[i]) ? NULL
                                                                                                        : containers[i];
    return NULL;
}

/* ---- what to do ---- */

static const char uncalled[] = "send a function that calls it, pyisolate.function(value); or a reference, "
                               "pyisolate.Ref(value, methods=[...])";
static const char uniterable[] = "send list(...) of it, or make a call with each item";

static const struct {
    PyTypeObject *base;
    const char *text;
} of_types[] = {
    {&PyGen_Type, uniterable},
    {&PyAsyncGen_Type, "send a list of what it yields, or make a call with each item"},
    {&PyMap_Type, uniterable},
    {&PyFilter_Type, uniterable},
    {&PyZip_Type, uniterable},
    {&PyEnum_Type, uniterable},
    {&PyReversed_Type, uniterable},
    {&PyDictKeys_Type, uniterable},
    {&PyDictValues_Type, uniterable},
    {&PyDictItems_Type, uniterable},
    {&PyDictProxy_Type, "send dict(value)"},
    {&PyModule_Type, "send its name, or what its functions return"},
    {&PyType_Type, "send its name; or a function that makes instances, pyisolate.function(value); or a token that the "
                   "receiver can send back, pyisolate.Ref(value)"},
    {&PyDict_Type, "convert it with {key: value[key] for key in value}"}, /* dict(value) copies what is stored */
    {&PyList_Type, "convert it with list(...)"},
    {&PyTuple_Type, "convert it with tuple(...)"},
    {&PyUnicode_Type, "convert it with str(...)"},
    {&PyLong_Type, "convert it with int(...)"},
    {&PyFloat_Type, "convert it with float(...)"},
    {&PyComplex_Type, "convert it with complex(...)"},
    {&PyBytes_Type, "convert it with bytes(...)"},
    {&PyByteArray_Type, "convert it with bytearray(...)"},
    {&PySet_Type, "convert it with set(...)"},
    {&PyFrozenSet_Type, "convert it with frozenset(...)"},
};

/* For classes written in Python, by module and name. */
static const struct {
    const char *module, *name, *text;
} of_classes[] = {
    {"pyisolate.shared", "ExtensionLocal", "it stays in its process; send what its methods return"},
    {"pyisolate._rpc.proxies", "Methods",
     "it is a proxy, which stays in its process; send one of its methods, as a function, or what they return"},
    {"pandas", "DataFrame", "send value.to_dict('list')"},
    {"pandas", "Series", "send value.to_list()"},
    {"polars", "DataFrame", "send value.to_dict(as_series=False)"},
    {"polars", "Series", "send value.to_list()"},
    {"pyarrow", "Table", "send value.to_pydict()"},
    {"PIL.Image", "Image", "send numpy.asarray(value)"},
    {"_io", "_IOBase", "send what it reads, or its path"},
    {"pathlib", "PurePath", "convert it with str(...)"},
    {"array", "array", "send memoryview(value), or value.tolist()"},
    {"fractions", "Fraction", "convert it with fractions.Fraction(...)"},
    {"datetime", "datetime", "send value.isoformat()"},
    {"types", "SimpleNamespace", "convert it with vars(...)"},
    {"collections", "deque", "send collections.deque(value)"},
    {"collections", "ChainMap", "send dict(value)"},
    {"collections", "UserDict", "send value.data"},
    {"collections", "UserList", "send value.data"},
    {"collections", "UserString", "send value.data"},
};

const char *core_remedy(PyObject *value, core_class_kind kind) {
    if (kind == CORE_DATACLASS)
        return "register its class with pyisolate.register_type on the host, in a module that both sides import; or "
               "send dataclasses.asdict(value)";
    if (kind == CORE_ENUM)
        return "register its class with pyisolate.register_type on the host, in a module that both sides import; or "
               "send value.name";
    if (kind == CORE_NAMED_TUPLE)
        return "register its class with pyisolate.register_type on the host, in a module that both sides import; or "
               "convert it with tuple(...)";
    for (size_t i = 0; i < sizeof of_classes / sizeof *of_classes; i++)
        if (is_instance(value, of_classes[i].module, of_classes[i].name))
            return of_classes[i].text;
    for (size_t i = 0; i < sizeof of_types / sizeof *of_types; i++)
        if (PyType_IsSubtype(Py_TYPE(value), of_types[i].base))
            return of_types[i].text;
    if (PyIter_Check(value))
        return uniterable;
    if (PyCallable_Check(value))
        return uncalled;
    return "register its class with pyisolate.register_type(cls, encode=..., decode=...) in both processes, where encode "
           "returns a value that can be sent and decode makes the object again; or send a reference, "
           "pyisolate.Ref(value)";
}

/* ---- hints: each is a Python expression for a value that can be sent; the tests evaluate them ---- */

static const struct {
    const char *module, *name; /* of a class, if its module is imported */
    const char *text;
} hints[] = {
    /* subclasses before their base */
    {"numpy.ma", "MaskedArray", "send (numpy.asarray(array), numpy.ma.getmaskarray(array))"},
    {"numpy", "recarray", "send array.view(numpy.dtype((numpy.void, array.dtype)), numpy.ndarray)"},
    {"numpy", "ndarray", "send numpy.asarray(array)"}, /* memmap, matrix, chararray, subclasses of other packages */
    {"numpy", "generic", "send value.item()"},
    {"torch._subclasses.fake_tensor", "FakeTensor", "it has no data; send (tensor.shape, tensor.dtype)"},
    {"torch.nested._internal.nested_tensor", "NestedTensor", "it is nested; send tensor.unbind()"},
    {"torch.masked.maskedtensor.core", "MaskedTensor", "send (tensor.get_data(), tensor.get_mask())"},
    {"torch", "Tensor", "it would arrive as a torch.Tensor; send tensor.detach().as_subclass(torch.Tensor)"},
    {"torch", "UntypedStorage", "send torch.empty(0, dtype=torch.uint8).set_(value)"},
    {"torch.nn", "Module", "send value.state_dict()"},
};

const char *core_hint(PyObject *value) {
    PyObject *modules = PyImport_GetModuleDict();
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        PyObject *module = PyDict_GetItemString(modules, hints[i].module);
        PyObject *cls = module ? PyObject_GetAttrString(module, hints[i].name) : NULL;
        bool found = cls && PyType_Check(cls) && PyType_IsSubtype(Py_TYPE(value), (PyTypeObject *)cls);
        Py_XDECREF(cls);
        PyErr_Clear(); /* the module is being imported, or is another module of that name */
        if (found)
            return hints[i].text;
    }
    return NULL;
}
