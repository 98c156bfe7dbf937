/* pump.h - taking events from a session. */
#ifndef BINDING_PUMP_H
#define BINDING_PUMP_H

#include "pending.h"

/* core_pump_context: who pumps. `link`: that of the loop that runs in this thread right now, or NULL; `in_task`: it is a
 * task that awaits, so a task may be current, which handlers must not see; `waits`: a thread that waits synchronously. */
struct core_pump_context {
    core_thread *thread;
    core_link *link;
    bool in_task, waits;
    bool polls;   /* the session, since a wait: until the first event is taken (core_pump_end_poll) */
    bool started; /* out: the loop of this thread has a new task */
};

/* core_pump: handles the events that are there (at most `limit`); returns how many. Never raises: what goes wrong belongs
 * to a call or a request. */
int core_pump(core_session *s, core_pump_context *context, int limit);
/* core_pump_end_poll: ends the poll that a wait has left. What is there still may be for others, and they slept through it. */
void core_pump_end_poll(core_session *s, core_pump_context *context);
/* core_pump_leftovers: for who stops polling: what came while others slept did not wake them, so it is handled
 * here. */
void core_pump_leftovers(core_session *s, core_pump_context *context);
/* core_run_inbox: the requests that a thread or a loop was handed, at most `limit`; returns how many. */
int core_run_inbox(core_inbox *inbox, core_pump_context *context, int limit);
/* core_reroute: requests that whoever was handed them cannot run any more. */
void core_reroute(core_inbox *inbox);

#endif
