/* send.h - sends calls, with a reply or without one. */
#ifndef BINDING_SEND_H
#define BINDING_SEND_H

#include "pending.h"

/* core_send: encodes the arguments and sends the call. Returns 0, or -1 with an exception. */
int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t method, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: returns the result (new reference), or NULL with the exception raised; outcome becomes
 * CORE_TAKEN. */
PyObject *core_pending_take(core_pending *pending);
/* core_session_notify: Session.notify. */
PyObject *core_session_notify(PyObject *self, PyObject *args);

#endif
