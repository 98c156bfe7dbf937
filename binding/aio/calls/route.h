/* route.h - selects the thread or loop that runs a request. */
#ifndef BINDING_ROUTE_H
#define BINDING_ROUTE_H

#include "rpc/object.h"

/* core_route: runs a request in the right thread or loop; takes the event (route.c). */
void core_route(core_session *s, piso_event *event, PyObject *origin, core_pump_context *context);
/* core_route_watch: makes some loop that can run take the session's messages. Returns 0 or -1. */
int core_route_watch(core_session *s);
/* core_await_result: awaits the result of a method and replies with its outcome; `awaitable` is stolen (route.c). */
void core_await_result(core_session *s, uint64_t request, PyObject *awaitable, PyObject *request_context,
                       bool has_buffers, core_pump_context *context);

#endif
