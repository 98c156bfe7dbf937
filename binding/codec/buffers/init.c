/* init.c - registers this folder's converters and functions. */
#include "buffers.h"
#include "shared.h"

static PyObject *shared_buffer(PyObject *module, PyObject *size) {
    core_state *state = core_module_state(module);
    size_t bytes = PyLong_AsSize_t(size);
    piso_segment *segment = PyErr_Occurred() ? NULL : core_shared_segment(state, bytes);
    PyObject *shared = segment ? (PyObject *)core_shared_map(state, segment, true) : NULL;
    piso_segment_unref(segment);
    return shared;
}

static PyMethodDef functions[] = {
    {"shared_buffer", shared_buffer, METH_O,
     "shared_buffer(size)\n\nReturn a buffer of zeros that can be shared with other processes."},
    {NULL, NULL, 0, NULL},
};

int core_buffers_init(PyObject *module, core_state *state) {
    core_memoryviews_init(state);
    return core_shared_init(module, state) < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
