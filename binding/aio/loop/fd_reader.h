/* fd_reader.h - the callback of an event loop for a session's readable file descriptor. A loop drops its readers when
 * it is closed. The deallocation notifies the link at once, with every kind of loop. */
#ifndef BINDING_FD_READER_H
#define BINDING_FD_READER_H

#include "common/state.h"

/* core_fd_owner: a type whose objects own readers: returns the session whose descriptor is read, and has the reader's
 * callbacks. */
typedef struct core_fd_owner {
    piso_session *(*session)(PyObject *owner);
    void (*ready)(PyObject *owner);   /* the descriptor is readable */
    void (*dropped)(PyObject *owner); /* the loop has dropped the reader */
} core_fd_owner;

int core_fd_reader_init(PyObject *module, core_state *state);
/* core_fd_reader_add: registers a reader that calls the owner. This runs Python code, and so perhaps signal handlers or
 * other threads: the link may be closed afterwards. Returns 0 or -1. */
int core_fd_reader_add(core_state *state, PyObject *loop, PyObject *owner, const core_fd_owner *type);
/* core_fd_reader_remove: removes the reader from the loop. Keeps the current exception. */
void core_fd_reader_remove(core_state *state, PyObject *loop, piso_session *session);

#endif
