/* requests.h - requests of the other side: which are open, which the running code belongs to, answering them. */
#ifndef BINDING_REQUESTS_H
#define BINDING_REQUESTS_H

#include "pump.h"

#define CORE_CONTROL     0          /* number of each side's control object */
#define CORE_OBJECT_NONE UINT32_MAX /* a call of it is for its arguments only; no object has this number */

/* ---- request.c ---- */

/* What is known of a request that has not been answered. */
typedef struct core_open_request {
    core_handler *handler; /* borrowed; NULL: it is no coroutine, or has not been started */
    bool cancelled;        /* the peer does not wait for it any more */
} core_open_request;

int core_request_init(PyObject *module, core_state *state);
/* core_request_enter: makes it the current request of a context. 0 or -1. */
int core_request_enter(PyObject *context, core_session *s, uint64_t id);
/* core_request_current: the id of the request of this session that the running code belongs to, or 0. */
uint64_t core_request_current(core_session *s);
/* core_open_request_find: the entry of an open request; NULL for 0, and without memory for one. */
core_open_request *core_open_request_find(core_session *s, uint64_t request);
/* core_request_cancel: the peer no longer waits for that request. */
void core_request_cancel(core_session *s, uint64_t request);

/* ---- reply.c ---- */

/* core_exit_forked: ends a process that a handler has forked, as the interpreter ends one: with the current exception, if it
 * has `failed`. Does not return. */
void core_exit_forked(core_session *s, bool failed);
/* core_check_forked: after a handler, which has raised the current exception if it has `failed`: whether this process was
 * forked by it. There is nobody to answer: the request is its parent's. A host's code may go on there, unless it has
 * failed; of an extension's nothing may run but what the handler does: then this does not return. */
bool core_check_forked(core_session *s, bool failed);
/* core_reply: sends a result (NULL: the current exception, which is cleared). */
void core_reply(core_session *s, uint64_t request, PyObject *result);
/* core_refuse: the current exception is the answer; ends the event. */
void core_refuse(core_session *s, piso_event *event);

/* ---- dispatch.c ---- */

/* core_dispatch: answers a request here; ends the event. */
void core_dispatch(core_session *s, piso_event *event, core_pump_context *context);

/* ---- meter.c ---- */

/* core_session_meter_exceeded: whether this notification is one too many; it is counted then. */
bool core_session_meter_exceeded(core_session *s, const piso_event *event);
/* Methods of Session. */
PyObject *core_session_meter(PyObject *self, PyObject *args);
PyObject *core_session_metered(PyObject *self, PyObject *ignored);

/* ---- prefetch.c ---- */

int core_prefetch_init(PyObject *module, core_state *state);
/* core_prefetch_take: opens what the peer may send later. Calls nothing; ends the event. */
void core_prefetch_take(core_session *s, piso_event *event);

#endif
