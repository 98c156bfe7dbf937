/* session_error.h - the exception for a negative code of a session. */
#ifndef BINDING_SESSION_ERROR_H
#define BINDING_SESSION_ERROR_H

#include "pending.h"

/* core_session_error: raises the exception for a negative code of this session; returns NULL. `pending` (or NULL): the
 * call that failed. */
PyObject *core_session_error(core_session *s, int error, const core_pending *pending);
/* core_session_explain: Session.explain. */
PyObject *core_session_explain(PyObject *self, PyObject *args, PyObject *kwargs);

#endif
