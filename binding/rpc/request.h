/* request.h - the peer's requests: the open ones, and the one that the running code handles. */
#ifndef BINDING_REQUEST_H
#define BINDING_REQUEST_H

#include "object.h"

/* A request that has not been answered. */
typedef struct core_open_request {
    core_handler *handler;        /* borrowed; NULL: it is not a coroutine, or has not been started */
    struct core_forward *forward; /* borrowed; NULL: it is not passed on to another process */
    PyObject *request;            /* its Request, borrowed; NULL: there is none */
    bool cancelled;               /* the peer no longer waits for it */
} core_open_request;

int core_request_init(PyObject *module, core_state *state);
/* A Request: a request of some session, and the one in whose handler the call was made in whose handler the peer made
 * it (`origin`), and so on: through how many processes a call came to this one.
 *
 * core_request_new: returns a new one; `origin` may be NULL. `deadline_ns`: until when the peer waits. */
PyObject *core_request_new(core_session *s, uint64_t id, PyObject *origin, int64_t deadline_ns);
/* core_request_enter: makes a Request the current one of a context. Returns 0 or -1. */
int core_request_enter(PyObject *context, PyObject *request);
/* core_request_current: returns the Request that the running code handles: a new reference, or NULL without an
 * exception. */
PyObject *core_request_current(core_state *state);
/* core_request_in: returns the id of this session's request among a Request (or NULL) and its origins, or 0. */
uint64_t core_request_in(PyObject *request, const core_session *s);
/* core_request_deadline: returns the earliest deadline of a Request (or NULL) and its origins. */
int64_t core_request_deadline(PyObject *request);
/* core_open_request_find: returns the entry of an open request; NULL for id 0, and when out of memory. */
core_open_request *core_open_request_find(core_session *s, uint64_t request);
/* core_request_cancel: called when the peer no longer waits for the request. */
void core_request_cancel(core_session *s, uint64_t request);
/* core_request_answered: called when an open request is about to be answered: it is not open any more. */
void core_request_answered(core_session *s, core_open_request *open);

#endif
