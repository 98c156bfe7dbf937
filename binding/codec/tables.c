/* tables.c - see tables.h. */
#include "tables.h"

#include <assert.h>

int core_tables_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->tables = PyMem_Calloc(1, sizeof *state->tables);
    if (!state->tables) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int core_tables_visit(core_state *state, visitproc visit, void *arg) {
    if (state->tables)
        Py_VISIT(state->tables->exact);
    return 0;
}

void core_tables_clear(core_state *state) {
    if (!state->tables)
        return;
    Py_CLEAR(state->tables->exact);
    state->tables->loaded = false;
}

void core_tables_free(core_state *state) {
    PyMem_Free(state->tables);
    state->tables = NULL;
}

int core_add_type(core_state *state, PyObject *cls, const core_encoder_entry *entry) {
    PyObject **exact = &state->tables->exact;
    PyObject *capsule = cls && (*exact || (*exact = PyDict_New())) ? PyCapsule_New((void *)entry, NULL, NULL) : NULL;
    int r = capsule ? PyDict_SetItem(*exact, cls, capsule) : -1;
    Py_XDECREF(capsule);
    return r;
}

void core_add_fallback(core_state *state, core_fallback fallback) {
    core_fallback *at = state->tables->fallbacks;
    while (at->encode)
        at++;
    assert(at < state->tables->fallbacks + CORE_FALLBACKS - 1); /* the last one stays empty */
    *at = fallback;
}

void core_add_loader(core_state *state, int (*load)(core_state *state)) {
    int (**at)(core_state *) = state->tables->loaders;
    while (*at)
        at++;
    assert(at < state->tables->loaders + CORE_LOADERS - 1); /* the last one stays empty */
    *at = load;
}

void core_add_decoder(core_state *state, int8_t ext_type, core_decoder_entry entry) {
    assert(ext_type > 0 && !state->tables->decoders[ext_type].decode);
    state->tables->decoders[ext_type] = entry;
}

int core_tables_load(core_state *state) {
    core_tables *t = state->tables;
    if (!t->exact && !(t->exact = PyDict_New())) /* it has been cleared: the interpreter is shutting down */
        return -1;
    for (size_t i = 0; !t->loaded && t->loaders[i]; i++)
        if (t->loaders[i](state) < 0)
            return -1;
    t->loaded = true;
    return 0;
}

const core_encoder_entry *core_encoder_of(core_state *state, PyTypeObject *cls) {
    PyObject *capsule = core_get_by_class(state->tables->exact, cls);
    return capsule ? PyCapsule_GetPointer(capsule, NULL) : NULL;
}
