/* frameworks.c - arrays of other packages: [framework, dtype, NumPy array]. Two Python functions convert them: these
 * packages have no C interface, and a transfer takes far longer than a Python call. */
#include "codec/decode.h"
#include "numpy.h"

static int encode_fallback(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *hook = e->codec->state->numpy->export;
    PyObject *parts = hook ? PyObject_CallOneArg(hook, value) : NULL;
    if (!parts)
        return hook ? -1 : 0;
    if (!PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) != 3) {
        Py_DECREF(parts);
        return 0;
    }
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_FOREIGN_ARRAY);
    piso_write_array(e->w, 3);
    int r = 0;
    for (Py_ssize_t i = 0; r == 0 && i < 3; i++)
        r = core_encode(e, PyTuple_GET_ITEM(parts, i), path);
    piso_write_ext_end(e->w, mark);
    Py_DECREF(parts);
    return r < 0 ? -1 : 1;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    if (core_read_array(d, ext, 3, &r) < 0)
        return NULL;
    PyObject *parts[3] = {NULL, NULL, NULL}, *value = NULL, *hook = d->codec->state->numpy->restore;
    bool good = true;
    for (int i = 0; good && i < 3; i++)
        good = (parts[i] = core_decode(d, &r)) != NULL;
    if (good && !(PyUnicode_CheckExact(parts[0]) && PyUnicode_CheckExact(parts[1]) &&
                  (PyObject *)Py_TYPE(parts[2]) == d->codec->state->numpy->ndarray)) {
        core_malformed(d, "an array of a framework without memory");
    } else if (good && !hook) {
        core_cannot_decode(d, PyExc_TypeError,
                           "the peer sent an array of %.50R, which this process does not support; send a NumPy array",
                           parts[0]);
    } else if (good) {
        value = PyObject_CallFunctionObjArgs(hook, parts[0], parts[1], parts[2], NULL);
        d->failed = !value; /* the package is not installed, or does not accept it */
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(parts[i]);
    return core_check_payload_end(d, &r, value);
}

static PyObject *set_framework_hooks(PyObject *module, PyObject *args) {
    core_numpy_state *n = core_module_state(module)->numpy;
    PyObject *export, *restore;
    if (!PyArg_ParseTuple(args, "OO:set_framework_hooks", &export, &restore))
        return NULL;
    Py_XSETREF(n->export, Py_NewRef(export));
    Py_XSETREF(n->restore, Py_NewRef(restore));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_framework_hooks", set_framework_hooks, METH_VARARGS,
     "set_framework_hooks(export, restore)\n\nSet the functions that convert arrays to NumPy's, and back."},
    {NULL, NULL, 0, NULL},
};

int core_frameworks_init(PyObject *module, core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode_fallback});
    core_add_decoder(state, PISO_EXT_FOREIGN_ARRAY,
                     (core_decoder_entry){.decode = decode, .cost = 2000, .special = true});
    return PyModule_AddFunctions(module, functions);
}
