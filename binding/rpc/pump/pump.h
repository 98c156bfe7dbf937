/* pump.h - takes events from a session and handles them. */
#ifndef BINDING_PUMP_H
#define BINDING_PUMP_H

#include "rpc/object.h"

/* core_pump: handles the events that are available (at most `limit`); returns how many. Never raises: an error belongs
 * to a call or a request. */
int core_pump(core_session *s, core_pump_context *context, int limit);
/* core_pump_end_poll: ends the poll that a wait has left. The remaining events may be for other threads, which were not
 * woken. */
void core_pump_end_poll(core_session *s, core_pump_context *context);
/* core_pump_leftovers: called by a thread that stops polling: handles the events that arrived while other threads slept
 * and did not wake them. */
void core_pump_leftovers(core_session *s, core_pump_context *context);
/* core_run_inbox: runs the requests that were handed to a thread or a loop, at most `limit`; returns how many. */
int core_run_inbox(core_inbox *inbox, core_pump_context *context, int limit);
/* core_reroute: routes requests again whose thread or loop can no longer run them. */
void core_reroute(core_inbox *inbox);

#endif
