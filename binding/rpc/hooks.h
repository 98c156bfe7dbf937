/* hooks.h - Python functions of the package that a session calls. Methods of Session set them. */
#ifndef BINDING_HOOKS_H
#define BINDING_HOOKS_H

#include "object.h"

PyObject *core_session_on_error(PyObject *self, PyObject *hook);
PyObject *core_session_on_plain(PyObject *self, PyObject *hook);
PyObject *core_session_on_copy(PyObject *self, PyObject *hook);
PyObject *core_session_on_end(PyObject *self, PyObject *hook);
PyObject *core_session_on_refused(PyObject *self, PyObject *hook);

/* core_session_report_end: calls the hook of on_end if the session was not closed by this process. Keeps the current
 * exception. */
void core_session_report_end(core_session *s);
/* core_session_annotate: calls the hook of on_error with an exception that is about to be sent. No exception is set
 * before or after. */
void core_session_annotate(core_session *s, PyObject *exception);
/* core_session_annotate_refused: calls the hook of on_refused with an exception of the child's, if its sandbox has
 * refused a system call since the last time. */
void core_session_annotate_refused(core_session *s, PyObject *exception);

#endif
