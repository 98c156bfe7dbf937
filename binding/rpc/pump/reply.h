/* reply.h - the reply to a request: a result, or an exception. */
#ifndef BINDING_REPLY_H
#define BINDING_REPLY_H

#include "rpc/object.h"

/* core_exit_forked: ends a process that a handler has forked, as the interpreter would, with the current exception if
 * `failed`. Does not return. */
void core_exit_forked(core_session *s, bool failed);
/* core_check_forked: called after a handler; returns whether this process was forked by it. `failed`: the handler has
 * raised the current exception. A forked process sends no reply, because the request belongs to its parent. A host's
 * code may continue there, unless it has failed. In an extension, only the handler's own code may run there: then this
 * function does not return. */
bool core_check_forked(core_session *s, bool failed);
/* core_reply: sends a result (NULL: the current exception, which is cleared). */
void core_reply(core_session *s, uint64_t request, PyObject *result);
/* core_refuse: replies with the current exception, and ends the event. */
void core_refuse(core_session *s, piso_event *event);

#endif
