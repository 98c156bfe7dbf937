/* cuda.c - used in both directions: storages by their addresses, and errors. */
#include "cuda.h"

#include <errno.h>

/* ---- storages by address ---- */

#define STORAGES_SWEPT 256 /* entries at which dead ones are removed first; again at each further power of two */

/* sweep: removes the storages that have been freed. */
static int sweep(core_state *state) {
    PyObject *living = PyDict_New(), *key, *weak;
    Py_ssize_t position = 0;
    while (living && PyDict_Next(state->cuda->storages, &position, &key, &weak)) {
        PyObject *storage = PyObject_CallNoArgs(weak);
        if (!storage || (storage != Py_None && PyDict_SetItem(living, key, weak) < 0))
            Py_CLEAR(living);
        Py_XDECREF(storage);
    }
    if (!living)
        return -1;
    Py_SETREF(state->cuda->storages, living);
    return 0;
}

int core_cuda_remember(core_state *state, PyObject *storage, const void *data) {
    if (!state->cuda->storages && !(state->cuda->storages = PyDict_New()))
        return -1;
    Py_ssize_t count = PyDict_GET_SIZE(state->cuda->storages);
    if (count >= STORAGES_SWEPT && (count & (count - 1)) == 0 && sweep(state) < 0)
        return -1;
    PyObject *key = PyLong_FromVoidPtr((void *)data), *weak = key ? PyWeakref_NewRef(storage, NULL) : NULL;
    int r = weak ? PyDict_SetItem(state->cuda->storages, key, weak) : -1;
    Py_XDECREF(key);
    Py_XDECREF(weak);
    return r;
}

PyObject *core_cuda_recall(core_state *state, const void *data, uint64_t size) {
    PyObject *key = state->cuda->storages ? PyLong_FromVoidPtr((void *)data) : NULL, *storage = NULL;
    PyObject *weak = key ? PyDict_GetItemWithError(state->cuda->storages, key) : NULL;
    Py_XDECREF(key);
    if (weak && !(storage = PyObject_CallNoArgs(weak)))
        return NULL;
    if (!storage || storage == Py_None) {
        Py_XDECREF(storage);
        return NULL;
    }
    /* it may have been resized since */
    PyObject *bytes = PyObject_CallMethodNoArgs(storage, state->torch->nbytes);
    bool same = bytes && PyLong_AsUnsignedLongLong(bytes) == size && core_torch_data(state->torch, storage) == data;
    Py_XDECREF(bytes);
    if (!same || PyErr_Occurred())
        Py_CLEAR(storage);
    return storage;
}

/* ---- errors ---- */

void core_cuda_raise(core_state *state, int error, const char *what) {
    if (error == -ENOMEM)
        core_torch_raise_out_of_memory(state->torch, "the GPU has no memory left to open another process's memory");
    else if (error == -ENOTRECOVERABLE)
        PyErr_Format(
            PyExc_RuntimeError,
            "%s: a fault on the GPU (%s) has made it unusable for this process; restart the process (stop an extension "
            "and load it again)",
            what, piso_cuda_failure());
    else if (error == -EAGAIN)
        PyErr_Format(PyExc_RuntimeError,
                     "%s: its stream is being captured into a graph; send the tensor before or after the capture",
                     what);
    else if (error == -ENOENT)
        PyErr_Format(PyExc_RuntimeError, "%s: this process does not see the tensor's device", what);
    else
        PyErr_Format(PyExc_RuntimeError,
                     "%s: %s (%s); from now on tensors on GPUs are copied to this process, so call again", what,
                     piso_strerror(error), piso_cuda_failure());
}
