/* init.c - registers this folder's converters and functions. torch.c looks up torch's objects. */
#include "tensors.h"

static PyObject *shared_storage(PyObject *module, PyObject *size) {
    core_state *state = core_module_state(module);
    size_t bytes = PyLong_AsSize_t(size);
    if (PyErr_Occurred() || core_torch_load(state, true) < 0)
        return NULL;
    return core_storage_new(state, bytes);
}

static PyObject *set_thread_hook(PyObject *module, PyObject *other_threads_idle) {
    Py_XSETREF(core_module_state(module)->other_threads_idle, Py_NewRef(other_threads_idle));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"shared_storage", shared_storage, METH_O,
     "shared_storage(size) -> torch.UntypedStorage\n\nReturn zeros in memory that can be shared with other processes."},
    {"set_thread_hook", set_thread_hook, METH_O,
     "set_thread_hook(other_threads_idle)\n\nSet the function that returns whether all other threads are idle."},
    {NULL, NULL, 0, NULL},
};

static PyObject *error_class(core_state *state, const char *name) {
    return core_torch_load(state, false) > 0 ? core_torch_error(state->torch, name) : NULL;
}

int core_torch_init(PyObject *module, core_state *state) {
    state->tables->error_class = error_class;
    core_tensors_encode_init(state);
    core_tensors_decode_init(state);
    core_torch_values_init(state);
    return PyModule_AddFunctions(module, functions);
}

int core_torch_visit(core_state *state, visitproc visit, void *arg) {
    core_torch_state *t = state->torch;
    Py_VISIT(state->other_threads_idle);
    if (!t)
        return 0;
    Py_VISIT(t->module);
    Py_VISIT(t->tensor);
    Py_VISIT(t->parameter);
    Py_VISIT(t->storage);
    Py_VISIT(t->blanks);
    Py_VISIT(t->values.types);
    Py_VISIT(t->values.names);
    Py_VISIT(t->values.constants);
    Py_VISIT(t->values.results);
    for (int i = 0; i < CORE_TORCH_DTYPES; i++)
        Py_VISIT(t->dtypes[i].blank);
    return 0;
}

void core_torch_clear(core_state *state) {
    Py_CLEAR(state->other_threads_idle);
    core_torch_forget(state->torch);
}

void core_torch_free(core_state *state) {
    core_torch_delete(state->torch);
    state->torch = NULL;
}
