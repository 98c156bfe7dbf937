/* fd_reader.h - what an event loop calls when a session's descriptor is readable. When the loop is closed it drops its
 * readers, and the deallocation is how the link learns of it, at once and for every kind of loop. */
#ifndef BINDING_FD_READER_H
#define BINDING_FD_READER_H

#include "link.h"

int core_reader_init(PyObject *module, core_state *state);
/* core_reader_add: has the loop call the link. It runs Python code, and so perhaps the handlers of signals, or other
 * threads: the link may be closed afterwards. 0 or -1. */
int core_reader_add(core_link *link, PyObject *loop);
/* core_reader_remove: the loop lets go of the link. Keeps the current exception. */
void core_reader_remove(core_link *link, PyObject *loop);

#endif
