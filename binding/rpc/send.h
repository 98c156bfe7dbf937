/* send.h - sends calls, with a reply or without one. */
#ifndef BINDING_SEND_H
#define BINDING_SEND_H

#include "pending.h"

/* core_pending_init: a call of `to`, whose embedding object has yet to set how its end is reported. */
void core_pending_init(core_pending *pending, const core_callee *to);
void core_pending_fini(core_pending *pending);
/* core_send: encodes the arguments and sends the call. Returns 0, or -1 with an exception. */
int core_send(const core_callee *to, core_pending *pending, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: returns the result (new reference), or NULL with the exception raised; outcome becomes
 * CORE_TAKEN. */
PyObject *core_pending_take(core_pending *pending);
/* core_session_notify: Session.notify. */
PyObject *core_session_notify(PyObject *self, PyObject *args);

#endif
