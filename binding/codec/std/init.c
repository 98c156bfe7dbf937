/* init.c - the state of this folder; registers its converters. */
#include "std.h"

#include "exceptions.h"

int core_std_init(PyObject *module, core_state *state) {
    state->std = PyMem_Calloc(1, sizeof *state->std);
    if (!state->std) {
        PyErr_NoMemory();
        return -1;
    }
    core_scalars_init(state);
    core_collections_init(state);
    core_records_init(state); /* fallbacks: registered classes come first */
    core_library_init(state);
    core_exceptions_init(state);
    core_exceptions_decode_init(state);
    state->std->remote_classes = PyDict_New();
    if (!state->std->remote_classes || core_sources_init(module, state) < 0)
        return -1;
    return core_exception_classes_init(module, state);
}

int core_std_visit(core_state *state, visitproc visit, void *arg) {
    core_std_state *s = state->std;
    if (!s)
        return 0;
    Py_VISIT(s->decimal);
    Py_VISIT(s->uuid);
    Py_VISIT(s->paths);
    Py_VISIT(s->timezone);
    Py_VISIT(s->zone_info);
    Py_VISIT(s->timedelta);
    Py_VISIT(s->counter);
    Py_VISIT(s->defaultdict);
    Py_VISIT(s->deque);
    Py_VISIT(s->remote_classes);
    Py_VISIT(s->source_files);
    Py_VISIT(s->source_file_type);
    Py_VISIT(s->sources_type);
    return 0;
}

void core_std_clear(core_state *state) {
    core_std_state *s = state->std;
    if (!s)
        return;
    PyObject **fields[] = {&s->decimal, &s->uuid,        &s->paths, &s->timezone,       &s->zone_info,   &s->timedelta,
                           &s->counter, &s->defaultdict, &s->deque, &s->remote_classes, &s->source_files};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        Py_CLEAR(*fields[i]);
    Py_CLEAR(s->source_file_type);
    Py_CLEAR(s->sources_type);
}

void core_std_free(core_state *state) {
    PyMem_Free(state->std);
    state->std = NULL;
}
