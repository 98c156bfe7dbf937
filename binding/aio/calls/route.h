/* route.h - where a request runs. */
#ifndef BINDING_ROUTE_H
#define BINDING_ROUTE_H

#include "rpc/pump.h"

/* core_route: has a request run where it belongs; takes the event. */
void core_route(core_session *s, piso_event *event, core_pump_context *context);
/* core_await_result: what a method has returned is awaited, and is the answer; `awaitable` is stolen. */
void core_await_result(core_session *s, uint64_t request, PyObject *awaitable, PyObject *request_context,
                       bool has_buffers, core_pump_context *context);

#endif
