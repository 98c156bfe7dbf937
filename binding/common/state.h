/* state.h - the module state of _core: its types and the objects that it has looked up.
 *
 * Every file of the binding that defines types has a `core_<file>_init(PyObject *module, core_state *state)`, which
 * module.c calls and which sets the file's part; and `core_<file>_visit` and `_clear` where it owns references. The
 * state lives as long as the module; objects keep it alive through their heap types. */
#ifndef BINDING_STATE_H
#define BINDING_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
#error "pyisolate/_util/platforms.py says why this Python is not supported"
#endif

#include "piso/piso.h"

typedef struct core_tables core_tables;             /* codec/tables.h */
typedef struct core_key_cache core_key_cache;       /* common/key_cache.h */
typedef struct core_std_state core_std_state;       /* codec/std/std.h */
typedef struct core_custom_state core_custom_state; /* codec/custom/custom.h */
typedef struct core_numpy_state core_numpy_state;   /* codec/numpy/numpy.h */
typedef struct core_async_state core_async_state;   /* aio/asyncio.h */
typedef struct core_torch_state core_torch_state;   /* codec/torch/torch.h */
typedef struct core_gpu core_gpu;                   /* codec/gpu.h */
typedef struct core_cuda_state core_cuda_state;     /* codec/cuda/cuda.h */

struct core_state;

/* core_peers: operations on all sessions, for the layers below the sessions (rpc/sessions.c). */
typedef struct core_peers {
    /* make_room: memory is short: releases what the sessions keep for later use. */
    void (*make_room)(struct core_state *state);
    /* retire: this process no longer uses this memory: notifies the peers to which it was sent. */
    void (*retire)(struct core_state *state, piso_segment *segment);
    /* has_others: returns whether there is another open session. */
    bool (*has_others)(struct core_state *state, const piso_session *session);
} core_peers;

typedef struct core_state {
    /* exception classes (errors.c) */
    PyObject *error;             /* PyIsolateError(Exception) */
    PyObject *remote_error;      /* RemoteError(PyIsolateError) */
    PyObject *extension_died;    /* ExtensionDied(PyIsolateError, ConnectionError) */
    PyObject *extension_hung;    /* ExtensionHung(ExtensionDied) */
    PyObject *extension_stopped; /* ExtensionStopped(PyIsolateError) */
    PyObject *protocol_error;    /* ProtocolError(PyIsolateError) */
    PyObject *forked_error;      /* ForkedProcessError(PyIsolateError, RuntimeError) */
    PyObject *sandbox_error;     /* SandboxError(PyIsolateError) */
    PyObject *call_timeout;      /* CallTimeout(PyIsolateError, TimeoutError; on 3.10 also asyncio.TimeoutError) */
    /* types */
    PyTypeObject *registry_type;   /* Registry (registry.c) */
    PyTypeObject *buffer_ref_type; /* Lease (buffer_ref.c) */
    PyTypeObject *shared_type;     /* Shared (shared.c) */
    PyTypeObject *session_type, *call_type, *method_type, *request_type;
    PyTypeObject *function_type, *ref_type, *forward_type; /* RemoteFunction, Ref, Forward (references/) */
    PyTypeObject *zygote_type;                             /* Zygote (zygote.c) */
    core_tables *tables;
    core_key_cache *key_cache;
    core_std_state *std;
    core_custom_state *custom;
    core_numpy_state *numpy;
    core_async_state *async;
    PyObject *interruption;     /* an exception that the main thread must raise, or NULL (interruption.c) */
    PyObject *request_variable; /* ContextVar: the Request that the running code handles (rpc/request.c) */
    const struct core_session_callbacks *callbacks; /* rpc/object.h */
    const struct core_forwarding *forwarding;       /* rpc/pump/dispatch.h */
    PyObject *other_threads_idle;                   /* function: returns whether no other thread computes, or NULL */
    core_torch_state *torch;                        /* NULL: it is not imported */
    const core_gpu *gpu;                            /* NULL: this build has no support for GPUs */
    core_cuda_state *cuda;                          /* likewise */
    const core_peers *peers;
    struct core_session *sessions; /* list of all sessions */
    uint64_t shared_sends;         /* of all sessions */
    unsigned converting;           /* encode and decode functions that run now (codec/custom/functions.h) */
} core_state;

static inline core_state *core_module_state(PyObject *module) {
    return (core_state *)PyModule_GetState(module);
}
/* core_type_state: returns the state of an instance of one of our heap types, which have no subclasses. */
static inline core_state *core_type_state(PyTypeObject *type) {
    return core_module_state(PyType_GetModule(type));
}

#endif
