/* numpy.c - NumPy's classes, looked up on first use (numpy.h). */
#include "numpy.h"

int core_numpy_load(core_state *state, bool import) {
    core_numpy_state *c = state->numpy;
    if (c->dtype)
        return 1;
    PyObject *module =
        import ? PyImport_ImportModule("numpy") : Py_XNewRef(PyDict_GetItemString(PyImport_GetModuleDict(), "numpy"));
    if (!module)
        return import ? -1 : 0;
    if (!c->ndarray)
        c->ndarray = PyObject_GetAttrString(module, "ndarray");
    if (!c->generic && c->ndarray)
        c->generic = PyObject_GetAttrString(module, "generic");
    if (c->generic && (c->dtype_specs || (c->dtype_specs = PyDict_New())) &&
        (c->spec_dtypes || (c->spec_dtypes = PyDict_New())))
        c->dtype = PyObject_GetAttrString(module, "dtype");
    if (!c->dtype && !import)
        PyErr_Clear(); /* NumPy is being imported, or is another module of that name */
    Py_XSETREF(c->numpy, module);
    return c->dtype ? 1 : import ? -1 : 0;
}

int core_numpy_needed(core_decoder *d) {
    if (core_numpy_load(d->codec->state, true) > 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear(); /* replaced by an error that says why it is needed */
        PyErr_SetString(PyExc_ImportError,
                        "the peer sent a NumPy array or dtype, but numpy is not installed here; add it "
                        "to the dependencies");
    }
    return -1;
}
