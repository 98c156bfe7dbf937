/* no_gpu.c - the functions of the module for GPUs in a build without support for them: there is no GPU, and the
 * reason. */
#include "codec/tables.h"
#include "gpu.h"

#define WHY "this build of pyisolate has no support for GPUs (the build option 'gpu')"

/* decode: refuses a tensor on a GPU from a peer whose build has support. */
static PyObject *decode(core_decoder *d, const piso_item *Py_UNUSED(ext)) {
    return core_cannot_decode(d, PyExc_RuntimeError, "the peer sent a tensor on a GPU, and " WHY "; send tensor.cpu()");
}

static PyObject *cuda_devices(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyList_New(0);
}

static PyObject *cuda_failure(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyUnicode_FromString(WHY);
}

static PyObject *nothing(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"cuda_devices", cuda_devices, METH_NOARGS, "cuda_devices() -> list[bytes]\n\nReturn an empty list: " WHY "."},
    {"cuda_failure", cuda_failure, METH_NOARGS, "cuda_failure() -> str\n\nReturn that " WHY "."},
    {"cuda_release", nothing, METH_VARARGS, NULL},
    {"cuda_events", nothing, METH_VARARGS, NULL},
    {"cuda_refused", nothing, METH_VARARGS, NULL},
    {"set_device_hooks", nothing, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int core_gpu_init(PyObject *module, core_state *state) {
    core_add_decoder(state, PISO_EXT_CUDA_TENSOR, (core_decoder_entry){.decode = decode});
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : PyModule_AddObjectRef(module, "HAS_GPU", Py_False);
}

int core_gpu_visit(core_state *Py_UNUSED(state), visitproc Py_UNUSED(visit), void *Py_UNUSED(arg)) {
    return 0;
}

void core_gpu_clear(core_state *Py_UNUSED(state)) {
}

void core_gpu_free(core_state *Py_UNUSED(state)) {
}
