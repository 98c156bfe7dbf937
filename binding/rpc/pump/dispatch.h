/* dispatch.h - runs the peer's requests. */
#ifndef BINDING_DISPATCH_H
#define BINDING_DISPATCH_H

#include "rpc/object.h"

/* core_dispatch: runs a request in this thread and replies; ends the event. */
void core_dispatch(core_session *s, piso_event *event, core_pump_context *context);

#endif
