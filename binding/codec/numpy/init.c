/* init.c - the state of this folder; registers its converters. */
#include "numpy.h"

int core_numpy_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->numpy = PyMem_Calloc(1, sizeof *state->numpy);
    if (!state->numpy) {
        PyErr_NoMemory();
        return -1;
    }
    core_arrays_init(state);
    core_shared_arrays_init(state);
    return 0;
}

int core_numpy_visit(core_state *state, visitproc visit, void *arg) {
    core_numpy_state *n = state->numpy;
    if (!n)
        return 0;
    Py_VISIT(n->numpy);
    Py_VISIT(n->ndarray);
    Py_VISIT(n->generic);
    Py_VISIT(n->dtype);
    Py_VISIT(n->dtype_specs);
    Py_VISIT(n->spec_dtypes);
    Py_VISIT(n->export);
    Py_VISIT(n->restore);
    return 0;
}

void core_numpy_clear(core_state *state) {
    core_numpy_state *n = state->numpy;
    if (!n)
        return;
    Py_CLEAR(n->numpy);
    Py_CLEAR(n->ndarray);
    Py_CLEAR(n->generic);
    Py_CLEAR(n->dtype);
    Py_CLEAR(n->dtype_specs);
    Py_CLEAR(n->spec_dtypes);
    Py_CLEAR(n->export);
    Py_CLEAR(n->restore);
}

void core_numpy_free(core_state *state) {
    PyMem_Free(state->numpy);
    state->numpy = NULL;
}
