/* state.h - the module state of _core: its types and what it has looked up once.
 *
 * Every file of the binding that defines types has a `core_<file>_init(PyObject *module, core_state *state)`,
 * called by module.c, which fills its own part; `core_<file>_visit` and `_clear` where it owns references. The
 * state lives as long as the module; objects keep it alive through their types. */
#ifndef BINDING_STATE_H
#define BINDING_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
#error "pyisolate/_util/platforms.py says why this Python is not supported"
#endif

#include "piso/piso.h"

typedef struct core_convert_state core_convert_state; /* encode.c, decode.c and their kin */
typedef struct core_async_state core_async_state;     /* calls, dispatch, loops */
typedef struct core_torch_state core_torch_state;     /* torch.c */

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
    PyTypeObject *registry_type; /* Registry (registry.c) */
    PyTypeObject *lease_type;    /* Lease (lease.c) */
    PyTypeObject *shared_type;   /* Shared (shared.c) */
    PyTypeObject *session_type, *call_type, *method_type;
    PyTypeObject *zygote_type; /* Zygote (zygote.c) */
    core_convert_state *convert;
    core_async_state *async;
    PyObject *framework_export, *framework_restore; /* functions for arrays of other packages, or NULL */
    PyObject *others_wait;                          /* function: whether no other thread computes, or NULL */
    PyObject *device_uuid, *device_of, *device_lend, *device_refuse; /* functions for GPUs, likewise */
    PyObject *cuda_storages;       /* dict: address -> weak reference to the storage there */
    core_torch_state *torch;       /* NULL: nobody has imported it */
    struct core_session *sessions; /* all that there are */
    uint64_t shared_sends;         /* of all sessions */
} core_state;

extern struct PyModuleDef core_module;

static inline core_state *core_module_state(PyObject *module) {
    return (core_state *)PyModule_GetState(module);
}
/* core_type_state: the state behind an instance of one of our heap types (or a subclass). */
core_state *core_type_state(PyTypeObject *type);

/* For those below the sessions (rpc/sessions.c). */
/* core_sessions_make_room: memory is short: what they keep for later goes back. */
void core_sessions_make_room(core_state *state);
/* core_sessions_retire: nobody here uses this memory any more: the peers that got it from here are told. */
void core_sessions_retire(core_state *state, piso_segment *segment);

#endif
