/* module.c - the module object of _core: multi-phase initialisation, per-module state, in the order of the layers. */
#include "aio/asyncio.h"
#include "aio/calls/call.h"
#include "aio/calls/callbacks.h"
#include "aio/calls/gather.h"
#include "aio/loop/fd_reader.h"
#include "aio/loop/handler.h"
#include "aio/loop/links.h"
#include "aio/waiter.h"
#include "codec/buffer_ref.h"
#include "codec/buffers/buffers.h"
#include "codec/custom/custom.h"
#include "codec/numpy/numpy.h"
#include "codec/registry.h"
#include "codec/std/std.h"
#include "codec/torch/torch.h"
#include "common/key_cache.h"
#include "debug.h"
#include "floor.h"
#include "gpu.h"
#include "process/spawn.h"
#include "process/zygote.h"
#include "references/remote.h"
#include "rpc/exports.h"
#include "rpc/pump/prefetch.h"
#include "rpc/request.h"
#include "rpc/sessions.h"
#include "rpc/types/method.h"
#include "rpc/types/session.h"

/* A part of the module. All but `init` may be NULL. */
typedef struct part {
    int (*init)(PyObject *module, core_state *state);
    int (*visit)(core_state *state, visitproc visit, void *arg);
    void (*clear)(core_state *state);
    void (*free)(core_state *state);
} part;

static const part parts[] = {
    {core_errors_init, core_errors_visit, core_errors_clear, NULL},
    /* codec; fallbacks for values of unknown classes are tried in this order */
    {core_tables_init, core_tables_visit, core_tables_clear, core_tables_free},
    {.init = core_decode_init},
    {core_key_cache_init, NULL, core_key_cache_clear, core_key_cache_free},
    {.init = core_registry_init},
    {.init = core_buffer_ref_init},
    {.init = core_buffers_init},
    {core_std_init, core_std_visit, core_std_clear, core_std_free},
    {core_custom_init, core_custom_visit, core_custom_clear, core_custom_free},
    {core_numpy_init, core_numpy_visit, core_numpy_clear, core_numpy_free},
    {core_torch_init, core_torch_visit, core_torch_clear, core_torch_free},
    {.init = core_frameworks_init},
    {core_gpu_init, core_gpu_visit, core_gpu_clear, core_gpu_free},
    {.init = core_converters_init},
    /* rpc */
    {.init = core_sessions_init},
    {.init = core_session_init},
    {.init = core_request_init},
    {.init = core_exports_init},
    {.init = core_method_init},
    {.init = core_prefetch_init},
    /* references */
    {.init = core_function_init},
    {.init = core_ref_init},
    {.init = core_forward_init},
    {.init = core_convert_init},
    /* process */
    {.init = core_zygote_init},
    {.init = core_spawn_init},
    {.init = core_supervision_init},
    /* aio */
    {core_aio_init, core_aio_visit, core_aio_clear, core_aio_free},
    {.init = core_waiter_init},
    {.init = core_fd_reader_init},
    {.init = core_link_init},
    {.init = core_handler_init},
    {.init = core_call_init},
    {.init = core_gather_init},
    {.init = core_callbacks_init},
    /* for tests and benchmarks */
    {.init = core_debug_init},
    {.init = core_floor_init},
};
#define PARTS (sizeof parts / sizeof *parts)

/* in_main_interpreter: from Python 3.12 on the slot below refuses subinterpreters, but not those of the old kind, which
 * share the GIL. The message is CPython's. */
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
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].init(module, state) < 0)
            return -1;
    return PyModule_AddStringConstant(module, "__version__", piso_version());
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    core_state *state = core_module_state(module);
    Py_VISIT(state->interruption);
    Py_VISIT(state->request_variable);
    Py_VISIT(state->registry_type);
    Py_VISIT(state->buffer_ref_type);
    Py_VISIT(state->shared_type);
    Py_VISIT(state->session_type);
    Py_VISIT(state->call_type);
    Py_VISIT(state->method_type);
    Py_VISIT(state->request_type);
    Py_VISIT(state->function_type);
    Py_VISIT(state->ref_type);
    Py_VISIT(state->forward_type);
    Py_VISIT(state->zygote_type);
    int r = 0;
    for (size_t i = 0; r == 0 && i < PARTS; i++)
        r = parts[i].visit ? parts[i].visit(state, visit, arg) : 0;
    return r;
}

static int module_clear(PyObject *module) {
    core_state *state = core_module_state(module);
    for (size_t i = PARTS; i-- > 0;)
        if (parts[i].clear)
            parts[i].clear(state);
    Py_CLEAR(state->interruption);
    Py_CLEAR(state->request_variable);
    Py_CLEAR(state->registry_type);
    Py_CLEAR(state->buffer_ref_type);
    Py_CLEAR(state->shared_type);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->call_type);
    Py_CLEAR(state->method_type);
    Py_CLEAR(state->request_type);
    Py_CLEAR(state->function_type);
    Py_CLEAR(state->ref_type);
    Py_CLEAR(state->forward_type);
    Py_CLEAR(state->zygote_type);
    return 0;
}

static void module_free(void *module) {
    core_state *state = core_module_state(module);
    module_clear(module);
    for (size_t i = PARTS; i-- > 0;)
        if (parts[i].free)
            parts[i].free(state);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyisolate._core",
    .m_doc = "Sessions between two processes, calls over them, and the conversion of values.",
    .m_size = sizeof(core_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&core_module);
}
