/* request.h - the peer's requests: the open ones, and the one that the running code handles. */
#ifndef BINDING_REQUEST_H
#define BINDING_REQUEST_H

#include "object.h"

/* A request that has not been answered. */
typedef struct core_open_request {
    core_handler *handler; /* borrowed; NULL: it is not a coroutine, or has not been started */
    bool cancelled;        /* the peer no longer waits for it */
} core_open_request;

int core_request_init(PyObject *module, core_state *state);
/* core_request_enter: makes the request the current one of a context. Returns 0 or -1. */
int core_request_enter(PyObject *context, core_session *s, uint64_t id);
/* core_request_current: returns the id of this session's request that the running code handles, or 0. */
uint64_t core_request_current(core_session *s);
/* core_open_request_find: returns the entry of an open request; NULL for id 0, and when out of memory. */
core_open_request *core_open_request_find(core_session *s, uint64_t request);
/* core_request_cancel: called when the peer no longer waits for the request. */
void core_request_cancel(core_session *s, uint64_t request);

#endif
