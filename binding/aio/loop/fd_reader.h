/* fd_reader.h - what an event loop calls when a session's descriptor is readable. When the loop is closed it drops its
 * readers, and the deallocation is how the link learns of it, at once and for every kind of loop. */
#ifndef BINDING_FD_READER_H
#define BINDING_FD_READER_H

#include "common/state.h"

/* core_fd_owner: a type whose objects have readers: the descriptor of which session, and what a reader calls. */
typedef struct core_fd_owner {
    piso_session *(*session)(PyObject *owner);
    void (*ready)(PyObject *owner);   /* the loop's turn */
    void (*dropped)(PyObject *owner); /* the loop has no reader any more */
} core_fd_owner;

int core_fd_reader_init(PyObject *module, core_state *state);
/* core_fd_reader_add: has the loop call the owner. It runs Python code, and so perhaps the handlers of signals, or other
 * threads: the link may be closed afterwards. 0 or -1. */
int core_fd_reader_add(core_state *state, PyObject *loop, PyObject *owner, const core_fd_owner *type);
/* core_fd_reader_remove: the loop lets go of it. Keeps the current exception. */
void core_fd_reader_remove(core_state *state, PyObject *loop, piso_session *session);

#endif
