/* pump.h - takes events from a session and handles them. */
#ifndef BINDING_PUMP_H
#define BINDING_PUMP_H

#include "pending.h"

/* core_pump_context: describes the caller of core_pump. `link`: the link of the loop that runs in this thread now, or
 * NULL. `in_task`: the caller is a task that awaits, so a task may be current, which handlers must not see. `waits`:
 * the caller is a thread that waits synchronously. */
struct core_pump_context {
    core_thread *thread;
    core_link *link;
    bool in_task, waits;
    bool polls;   /* a wait has left the session polled, until the first event is taken (core_pump_end_poll) */
    bool started; /* output: the loop of this thread has a new task */
};

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
