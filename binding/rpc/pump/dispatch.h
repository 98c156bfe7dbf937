/* dispatch.h - runs the peer's requests. */
#ifndef BINDING_DISPATCH_H
#define BINDING_DISPATCH_H

#include "rpc/object.h"

/* core_dispatch: runs a request in this thread and replies; ends the event. `origin`: see core_session_callbacks. */
void core_dispatch(core_session *s, piso_event *event, PyObject *origin, core_pump_context *context);

#endif
