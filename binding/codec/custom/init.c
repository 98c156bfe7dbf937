/* init.c - the state of this folder; registers its converters. */
#include "custom.h"
#include "opaque.h"

int core_custom_init(PyObject *module, core_state *state) {
    core_custom_state *c = state->custom = PyMem_Calloc(1, sizeof *state->custom);
    if (!c) {
        PyErr_NoMemory();
        return -1;
    }
    if (!(c->classes = PyDict_New()) || !(c->names = PyDict_New()))
        return -1;
    core_instances_init(state);
    return core_texts_init(module) < 0 ? -1 : core_opaque_init(module, state);
}

int core_custom_visit(core_state *state, visitproc visit, void *arg) {
    core_custom_state *c = state->custom;
    if (!c)
        return 0;
    Py_VISIT(c->opaque_type);
    Py_VISIT(c->load);
    Py_VISIT(c->packages);
    Py_VISIT(c->classes);
    Py_VISIT(c->names);
    return 0;
}

void core_custom_clear(core_state *state) {
    core_custom_state *c = state->custom;
    if (!c)
        return;
    Py_CLEAR(c->opaque_type);
    Py_CLEAR(c->load);
    Py_CLEAR(c->packages);
    Py_CLEAR(c->classes);
    Py_CLEAR(c->names);
}

void core_custom_free(core_state *state) {
    PyMem_Free(state->custom);
    state->custom = NULL;
}
