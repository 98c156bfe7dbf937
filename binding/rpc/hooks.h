/* hooks.h - functions of the package that a session calls: set by methods of Session, each of which takes one. */
#ifndef BINDING_HOOKS_H
#define BINDING_HOOKS_H

#include "session.h"

PyObject *core_session_on_error(PyObject *self, PyObject *hook);
PyObject *core_session_on_copy(PyObject *self, PyObject *hook);
PyObject *core_session_on_end(PyObject *self, PyObject *hook);
PyObject *core_session_on_refused(PyObject *self, PyObject *hook);

/* core_session_report_end: calls that hook if the session has ended by itself. Keeps the current exception. */
void core_session_report_end(core_session *s);
/* core_session_annotate: lets the hook see an exception that is about to be sent. None is set, before or after. */
void core_session_annotate(core_session *s, PyObject *exception);
/* core_session_annotate_refused: lets the hook remark on an exception of the child's, if its sandbox has refused a call since
 * the last time. */
void core_session_annotate_refused(core_session *s, PyObject *exception);

#endif
