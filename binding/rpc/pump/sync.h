/* sync.h - calls from threads that wait without an event loop. */
#ifndef BINDING_SYNC_H
#define BINDING_SYNC_H

#include "rpc/pending.h"

/* core_sync_call: sends a call and waits for its reply without the GIL. Returns the result (new reference) or NULL. */
PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t method, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
