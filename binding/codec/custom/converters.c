/* converters.c - values of other packages' types: [name of the converter, value]. Python functions convert them
 * (pyisolate/_rpc/converters), which are loaded with the first value of a package: by a sender that has imported it, by
 * a receiver that has it installed. A converter is a tuple: class, name, encode, decode, whether it takes subclasses. */
#include "functions.h"
#include "named.h"
#include "opaque.h"

enum { CLASS, NAME, ENCODE, DECODE, SUBCLASSES, FIELDS };

/* add: stores a converter. Returns 0 or -1. */
static int add(core_custom_state *c, PyObject *converter) {
    if (!PyTuple_Check(converter) || PyTuple_GET_SIZE(converter) != FIELDS) {
        PyErr_SetString(PyExc_TypeError, "a converter is (class, name, encode, decode, subclasses)");
        return -1;
    }
    if (PyDict_SetItem(c->classes, PyTuple_GET_ITEM(converter, CLASS), converter) < 0)
        return -1;
    return PyDict_SetItem(c->names, PyTuple_GET_ITEM(converter, NAME), converter);
}

/* load_package: loads the converters of a package, if it has some that are not loaded. Returns 1, 0 if there are none, or
 * the package is not installed, or -1. */
static int load_package(core_custom_state *c, PyObject *package) {
    PyObject *loaded = PyDict_GetItemWithError(c->packages, package);
    if (!loaded || loaded == Py_True)
        return loaded || !PyErr_Occurred() ? 0 : -1;
    PyObject *converters = PyObject_CallOneArg(c->load, package);
    if (converters == Py_None) {
        Py_DECREF(converters);
        return 0;
    }
    PyObject *list = converters ? PySequence_List(converters) : NULL;
    int r = list ? 0 : -1;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(list); i++)
        r = add(c, PyList_GET_ITEM(list, i));
    if (r == 0)
        r = PyDict_SetItem(c->packages, package, Py_True);
    Py_XDECREF(converters);
    Py_XDECREF(list);
    return r < 0 ? -1 : 1;
}

/* package_of: returns the text before the first dot of a name, a new reference. */
static PyObject *package_of(PyObject *name) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(name), dot = PyUnicode_FindChar(name, '.', 0, length, 1);
    return PyUnicode_Substring(name, 0, dot < 0 ? length : dot);
}

/* ---- encoding ---- */

/* load_package_of: the same for the package that defines a class. */
static int load_package_of(core_custom_state *c, PyTypeObject *cls) {
    PyObject *key = PyUnicode_FromString("__module__");
    PyObject *module = key ? PyType_Type.tp_getattro((PyObject *)cls, key) : NULL;
    PyObject *package = module && PyUnicode_Check(module) ? package_of(module) : NULL;
    if (!package)
        PyErr_Clear(); /* a class without a module */
    int r = package ? load_package(c, package) : 0;
    Py_XDECREF(key);
    Py_XDECREF(module);
    Py_XDECREF(package);
    return r;
}

/* find_class: returns the converter for a class or one of its bases: a new reference, or NULL with an exception only on
 * failure. */
static PyObject *find_class(core_custom_state *c, PyTypeObject *cls) {
    PyObject *mro = cls->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        PyObject *found = core_get_by_class(c->classes, base);
        if (!found && !PyErr_Occurred() && load_package_of(c, base) > 0)
            found = core_get_by_class(c->classes, base);
        if (PyErr_Occurred())
            return NULL;
        if (found && (i == 0 || PyTuple_GET_ITEM(found, SUBCLASSES) == Py_True))
            return Py_NewRef(found);
    }
    return NULL;
}

/* refuse: a converter raises a TypeError whose text says what to send instead. */
static int refuse(PyObject *value, const core_path *path) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return -1;
    PyObject *error = core_fetch_exception(), *text = PyObject_Str(error);
    const char *remedy = text ? PyUnicode_AsUTF8(text) : NULL;
    if (remedy)
        core_encode_error(path, value, remedy);
    Py_XDECREF(text);
    Py_DECREF(error);
    return -1;
}

static int encode(core_encoder *e, PyObject *value, const core_path *path) {
    core_custom_state *c = e->codec->state->custom;
    PyObject *converter = c->load ? find_class(c, Py_TYPE(value)) : NULL;
    if (!converter)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *name = PyTuple_GET_ITEM(converter, NAME);
    PyObject *encoded = core_call_encode(e, PyTuple_GET_ITEM(converter, ENCODE), name, value);
    int r;
    if (!encoded)
        r = refuse(value, path);
    else if (encoded == Py_NotImplemented)
        r = 0;
    else
        r = core_write_named(e, PISO_EXT_CONVERTED, name, encoded, path) < 0 ? -1 : 1;
    Py_XDECREF(encoded);
    Py_DECREF(converter);
    return r;
}

/* ---- decoding ---- */

/* find_name: returns the converter of that name: a new reference. NULL without an exception: its package is not
 * installed. */
static PyObject *find_name(core_decoder *d, PyObject *name) {
    core_custom_state *c = d->codec->state->custom;
    PyObject *package = package_of(name);
    int known = !package ? -1 : c->packages ? PyDict_Contains(c->packages, package) : 0;
    PyObject *found = NULL;
    if (known > 0 && load_package(c, package) >= 0)
        found = Py_XNewRef(PyDict_GetItemWithError(c->names, name));
    bool missing = known > 0 && PyDict_GetItemWithError(c->packages, package) == Py_False;
    if (!found && !missing)
        core_cannot_decode(d, PyExc_TypeError, "the peer sent a value of type %.200R, which this version does not know",
                           name);
    d->failed |= PyErr_Occurred() != NULL; /* the package could not be imported */
    Py_XDECREF(package);
    return found;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    PyObject *name = core_read_name(d, ext, &r), *value = name ? core_read_named(d, &r) : NULL, *result = NULL;
    PyObject *converter = value ? find_name(d, name) : NULL;
    if (converter)
        result = core_call_decode(d, PyTuple_GET_ITEM(converter, DECODE), name, value);
    else if (value && !PyErr_Occurred())
        result = core_opaque_new(d->codec->state, PISO_EXT_CONVERTED, name, value);
    Py_XDECREF(converter);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return result;
}

static PyObject *set_converters(PyObject *module, PyObject *args) {
    core_custom_state *c = core_module_state(module)->custom;
    PyObject *packages, *load;
    if (!PyArg_ParseTuple(args, "OO:set_converters", &packages, &load))
        return NULL;
    PyObject *list = PySequence_List(packages), *dict = list ? PyDict_New() : NULL;
    for (Py_ssize_t i = 0; dict && i < PyList_GET_SIZE(list); i++)
        if (PyDict_SetItem(dict, PyList_GET_ITEM(list, i), Py_False) < 0)
            Py_CLEAR(dict);
    Py_XDECREF(list);
    if (!dict)
        return NULL;
    Py_XSETREF(c->packages, dict);
    Py_XSETREF(c->load, Py_NewRef(load));
    PyDict_Clear(c->classes);
    PyDict_Clear(c->names);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_converters", set_converters, METH_VARARGS,
     "set_converters(packages, load)\n\nSet the packages whose values are converted, and the function that returns the "
     "converters of one."},
    {NULL, NULL, 0, NULL},
};

int core_converters_init(PyObject *module, core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode});
    core_add_decoder(
        state, PISO_EXT_CONVERTED,
        (core_decoder_entry){.decode = decode, .cost = 500, .holds = true, .special = true, .registered = true});
    return PyModule_AddFunctions(module, functions);
}
