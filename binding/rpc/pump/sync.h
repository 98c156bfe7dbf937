/* sync.h - calls from threads that wait without an event loop. */
#ifndef BINDING_SYNC_H
#define BINDING_SYNC_H

#include "rpc/pending.h"

/* core_sync_call: sends a call and waits for its reply without the GIL. Returns the result (new reference) or NULL. */
PyObject *core_sync_call(const core_callee *to, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
