/* module.c - the module object of _core: multi-phase initialisation, per-module state. */
#include "aio/asyncio.h"
#include "aio/gather.h"
#include "rpc/session.h"
#include "process/zygote.h"
#include "debug.h"
#include "floor.h"
#include "codec/lease.h"
#include "codec/registry.h"
#include "codec/torch/torch.h"

core_state *core_type_state(PyTypeObject *type) {
#if PY_VERSION_HEX >= 0x030b0000
    PyObject *module = PyType_GetModuleByDef(type, &core_module);
#else
    PyObject *module = _PyType_GetModuleByDef(type, &core_module);
#endif
    return core_module_state(module);
}

static PyObject *current_session(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    PyObject *session = core_request_session(core_module_state(module));
    return session ? session : Py_NewRef(Py_None);
}

static PyObject *shared_storage(PyObject *module, PyObject *size) {
    core_state *state = core_module_state(module);
    size_t bytes = PyLong_AsSize_t(size);
    if (PyErr_Occurred() || core_torch_load(state, true) < 0)
        return NULL;
    return core_storage_new(state, bytes);
}

static PyObject *shared_buffer(PyObject *module, PyObject *size) {
    core_state *state = core_module_state(module);
    size_t bytes = PyLong_AsSize_t(size);
    piso_segment *segment = PyErr_Occurred() ? NULL : core_shared_segment(state, bytes);
    PyObject *shared = segment ? (PyObject *)core_shared_map(state, segment, true) : NULL;
    piso_segment_unref(segment);
    return shared;
}

static PyObject *send_ahead(PyObject *module, PyObject *value) {
    core_send_ahead(core_module_state(module), value);
    Py_RETURN_NONE;
}

static PyObject *set_framework_hooks(PyObject *module, PyObject *args) {
    core_state *state = core_module_state(module);
    PyObject *export, *restore;
    if (!PyArg_ParseTuple(args, "OO:set_framework_hooks", &export, &restore))
        return NULL;
    Py_XSETREF(state->framework_export, Py_NewRef(export));
    Py_XSETREF(state->framework_restore, Py_NewRef(restore));
    Py_RETURN_NONE;
}

static PyObject *set_thread_hook(PyObject *module, PyObject *others_wait) {
    Py_XSETREF(core_module_state(module)->others_wait, Py_NewRef(others_wait));
    Py_RETURN_NONE;
}

static PyObject *set_device_hooks(PyObject *module, PyObject *args) {
    core_state *state = core_module_state(module);
    PyObject *uuid, *device, *lend, *refuse;
    if (!PyArg_ParseTuple(args, "OOOO:set_device_hooks", &uuid, &device, &lend, &refuse))
        return NULL;
    Py_XSETREF(state->device_uuid, Py_NewRef(uuid));
    Py_XSETREF(state->device_of, Py_NewRef(device));
    Py_XSETREF(state->device_lend, Py_NewRef(lend));
    Py_XSETREF(state->device_refuse, Py_NewRef(refuse));
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
    s->codec.cuda_events = allowed;
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

static PyMethodDef module_methods[] = {
    {"cuda_devices", cuda_devices, METH_NOARGS,
     "cuda_devices() -> list[bytes]\n\nUUIDs of the GPUs that the driver has here; empty without a driver."},
    {"cuda_failure", cuda_failure, METH_NOARGS,
     "cuda_failure() -> str\n\nThe call of CUDA's driver that failed last in this thread, or why there is no driver."},
    {"cuda_release", cuda_release, METH_VARARGS,
     "cuda_release(session, handle)\n\nThe other side has freed this memory of a GPU: do not keep it mapped."},
    {"cuda_events", cuda_events, METH_VARARGS,
     "cuda_events(session, allowed)\n\nWhether the other side can wait for this side's events; at first it cannot."},
    {"cuda_refused", cuda_refused, METH_VARARGS,
     "cuda_refused(session, why)\n\nThe other side cannot open memory of GPUs: send copies."},
    {"set_device_hooks", set_device_hooks, METH_VARARGS,
     "set_device_hooks(uuid, device, lend, refuse)\n\nFunctions from the number of a GPU to its UUID, from that to its "
     "device, for the first send of a storage, and for memory that cannot be opened here."},
    {"set_thread_hook", set_thread_hook, METH_O,
     "set_thread_hook(others_wait)\n\nA function that says whether no other thread may be inside of an operation."},
    {"set_framework_hooks", set_framework_hooks, METH_VARARGS,
     "set_framework_hooks(export, restore)\n\nFunctions that make NumPy arrays of others, and the other way round."},
    {"shared_buffer", shared_buffer, METH_O,
     "shared_buffer(size)\n\nAn object with the buffer protocol over zeros that can be shared with other processes."},
    {"shared_storage", shared_storage, METH_O,
     "shared_storage(size) -> torch.UntypedStorage\n\nZeros in memory that can be shared with other processes."},
    {"gather", (PyCFunction)(void (*)(void))core_gather_new, METH_VARARGS | METH_KEYWORDS,
     "gather(*awaitables, return_exceptions=False)\n\nThe results of calls that are awaited together, as "
     "asyncio.gather has them, without a task for each."},
    {"send_ahead", send_ahead, METH_O,
     "send_ahead(value)\n\nLets peers open a new shared tensor or array before it is first sent."},
    {"current_session", current_session, METH_NOARGS,
     "current_session() -> Session | None\n\nThe session whose request is being handled in this context."},
    {NULL, NULL, 0, NULL},
};

/* in_main_interpreter: from Python 3.12 on the slot below says it, but not to interpreters of the old kind, which share the
 * GIL. The words are CPython's. */
static int in_main_interpreter(void) {
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0)
        return 0;
    PyErr_SetString(PyExc_ImportError, "module pyisolate._core does not support loading in subinterpreters");
    return -1;
}

static int module_exec(PyObject *module) {
    core_state *state = core_module_state(module);
    if (in_main_interpreter() < 0)
        return -1;
    if (core_errors_init(module, state) < 0 || core_registry_init(module, state) < 0 ||
        core_lease_init(module, state) < 0 || core_shared_init(module, state) < 0 ||
        core_convert_init(module, state) < 0 || core_debug_init(module, state) < 0 ||
        core_floor_init(module, state) < 0 || core_aio_init(module, state) < 0 ||
        core_session_init(module, state) < 0 || core_method_init(module, state) < 0 ||
        core_call_init(module, state) < 0 || core_link_init(module, state) < 0 ||
        core_handler_init(module, state) < 0 || core_request_init(module, state) < 0 ||
        core_gather_init(module, state) < 0 || core_zygote_init(module, state) < 0 || core_supervise_init(module) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", piso_version());
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    core_state *state = core_module_state(module);
    Py_VISIT(state->registry_type);
    Py_VISIT(state->framework_export);
    Py_VISIT(state->framework_restore);
    Py_VISIT(state->others_wait);
    Py_VISIT(state->device_uuid);
    Py_VISIT(state->device_of);
    Py_VISIT(state->device_lend);
    Py_VISIT(state->device_refuse);
    Py_VISIT(state->cuda_storages);
    Py_VISIT(state->lease_type);
    Py_VISIT(state->shared_type);
    Py_VISIT(state->session_type);
    Py_VISIT(state->call_type);
    Py_VISIT(state->method_type);
    Py_VISIT(state->zygote_type);
    int r = core_errors_visit(state, visit, arg);
    if (r == 0)
        r = core_convert_visit(state, visit, arg);
    if (r == 0)
        r = core_torch_visit(state->torch, visit, arg);
    return r ? r : core_aio_visit(state, visit, arg);
}

static int module_clear(PyObject *module) {
    core_state *state = core_module_state(module);
    core_aio_clear(state);
    core_convert_clear(state);
    core_torch_clear(state->torch);
    core_errors_clear(state);
    Py_CLEAR(state->registry_type);
    Py_CLEAR(state->framework_export);
    Py_CLEAR(state->framework_restore);
    Py_CLEAR(state->others_wait);
    Py_CLEAR(state->device_uuid);
    Py_CLEAR(state->device_of);
    Py_CLEAR(state->device_lend);
    Py_CLEAR(state->device_refuse);
    Py_CLEAR(state->cuda_storages);
    Py_CLEAR(state->lease_type);
    Py_CLEAR(state->shared_type);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->call_type);
    Py_CLEAR(state->method_type);
    Py_CLEAR(state->zygote_type);
    return 0;
}

static void module_free(void *module) {
    core_state *state = core_module_state(module);
    module_clear(module);
    PyMem_Free(state->async);
    state->async = NULL;
    core_torch_free(state->torch);
    state->torch = NULL;
    PyMem_Free(state->convert);
    state->convert = NULL;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyisolate._core",
    .m_doc = "Sessions between two processes, calls over them, and the conversion of values.",
    .m_size = sizeof(core_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&core_module);
}
