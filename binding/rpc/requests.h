/* requests.h - the peer's requests: the open ones, the one that the running code handles, and replies. */
#ifndef BINDING_REQUESTS_H
#define BINDING_REQUESTS_H

#include "pump.h"

#define CORE_CONTROL     0          /* id of each peer's control object */
#define CORE_OBJECT_NONE UINT32_MAX /* a call of it only transfers its arguments; no object has this id */

/* ---- request.c ---- */

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

/* ---- reply.c ---- */

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

/* ---- dispatch.c ---- */

/* core_dispatch: runs a request in this thread and replies; ends the event. */
void core_dispatch(core_session *s, piso_event *event, core_pump_context *context);

/* ---- meter.c ---- */

/* core_session_meter_exceeded: counts a notification and returns whether it exceeds the limit. */
bool core_session_meter_exceeded(core_session *s, const piso_event *event);
/* Methods of Session. */
PyObject *core_session_meter(PyObject *self, PyObject *args);
PyObject *core_session_metered(PyObject *self, PyObject *ignored);

/* ---- prefetch.c ---- */

int core_prefetch_init(PyObject *module, core_state *state);
/* core_prefetch_take: opens shared memory that the peer may send later. Calls no method; ends the event. */
void core_prefetch_take(core_session *s, piso_event *event);

#endif
