/* gpu.c - the functions of the module for GPUs. A build without support for GPUs has no_gpu.c instead. */
#include "gpu.h"

#include "codec/cuda/cuda.h"
#include "rpc/object.h"

static PyObject *set_device_hooks(PyObject *module, PyObject *args) {
    core_cuda_state *cuda = core_module_state(module)->cuda;
    PyObject *uuid, *device, *lend, *refuse;
    if (!PyArg_ParseTuple(args, "OOOO:set_device_hooks", &uuid, &device, &lend, &refuse))
        return NULL;
    Py_XSETREF(cuda->uuid, Py_NewRef(uuid));
    Py_XSETREF(cuda->device, Py_NewRef(device));
    Py_XSETREF(cuda->lend, Py_NewRef(lend));
    Py_XSETREF(cuda->refuse, Py_NewRef(refuse));
    Py_RETURN_NONE;
}

static PyObject *cuda_devices(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    int count = piso_cuda_count();
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < count; i++) {
        uint8_t uuid[PISO_CUDA_UUID];
        PyObject *bytes = NULL;
        if (piso_cuda_uuid(i, uuid) < 0)
            continue;
        bytes = PyBytes_FromStringAndSize((const char *)uuid, sizeof uuid);
        if (!bytes || PyList_Append(list, bytes) < 0)
            Py_CLEAR(list);
        Py_XDECREF(bytes);
    }
    return list;
}

static PyObject *cuda_failure(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyUnicode_FromString(piso_cuda_failure());
}

/* cuda_release: cuda_release(session, handle). */
static PyObject *cuda_release(PyObject *module, PyObject *args) {
    core_session *s;
    const char *handle;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!y#:cuda_release", core_module_state(module)->session_type, &s, &handle, &size))
        return NULL;
    if (size != PISO_CUDA_HANDLE) {
        PyErr_SetString(PyExc_ValueError, "a handle has 64 bytes");
        return NULL;
    }
    piso_cuda_release(s->session, (const uint8_t *)handle);
    Py_RETURN_NONE;
}

/* cuda_events: cuda_events(session, allowed). */
static PyObject *cuda_events(PyObject *module, PyObject *args) {
    core_session *s;
    int allowed;
    if (!PyArg_ParseTuple(args, "O!p:cuda_events", core_module_state(module)->session_type, &s, &allowed))
        return NULL;
    s->codec.gpu.events = allowed;
    Py_RETURN_NONE;
}

/* cuda_refused: cuda_refused(session, why). */
static PyObject *cuda_refused(PyObject *module, PyObject *args) {
    core_session *s;
    const char *why;
    if (!PyArg_ParseTuple(args, "O!s:cuda_refused", core_module_state(module)->session_type, &s, &why) ||
        core_cuda_refused(&s->codec, why) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"cuda_devices", cuda_devices, METH_NOARGS,
     "cuda_devices() -> list[bytes]\n\nReturn the UUIDs of the driver's GPUs; an empty list without a driver."},
    {"cuda_failure", cuda_failure, METH_NOARGS,
     "cuda_failure() -> str\n\nReturn the CUDA call that failed last in this thread, or why there is no driver."},
    {"cuda_release", cuda_release, METH_VARARGS,
     "cuda_release(session, handle)\n\nUnmap this memory of a GPU, which the peer has freed."},
    {"cuda_events", cuda_events, METH_VARARGS,
     "cuda_events(session, allowed)\n\nSet whether the peer can wait for this process's events; initially it cannot."},
    {"cuda_refused", cuda_refused, METH_VARARGS,
     "cuda_refused(session, why)\n\nSend copies: the peer cannot open memory of GPUs."},
    {"set_device_hooks", set_device_hooks, METH_VARARGS,
     "set_device_hooks(uuid, device, lend, refuse)\n\nSet the functions that map the id of a GPU to its UUID, map "
     "that to its device, are called for the first send of a storage, and for memory that cannot be opened here."},
    {NULL, NULL, 0, NULL},
};

int core_gpu_init(PyObject *module, core_state *state) {
    if (core_cuda_init(module, state) < 0 || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "HAS_GPU", Py_True);
}

int core_gpu_visit(core_state *state, visitproc visit, void *arg) {
    return core_cuda_visit(state, visit, arg);
}

void core_gpu_clear(core_state *state) {
    core_cuda_clear_state(state);
}

void core_gpu_free(core_state *state) {
    core_cuda_free(state);
}
