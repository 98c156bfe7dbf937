/* scheduling.h - schedules work on a link's loop: waking it, running the link, calling a function. */
#ifndef BINDING_SCHEDULING_H
#define BINDING_SCHEDULING_H

#include "link.h"

/* core_link_wake: ends its sleep. core_link_rearm: schedules its next run on the loop. */
void core_link_wake(core_link *link);
void core_link_rearm(core_link *link);
/* core_link_nudge: schedules a run soon, from any thread. */
void core_link_nudge(core_link *link);
/* core_links_wake: wakes the sleeping link of this thread, which re-arms itself. */
void core_links_wake(core_session *s);
/* core_link_schedule: schedules a callback on the loop, in a context (or NULL). If the loop fails to schedule it,
 * because a signal handler has raised in its code or the stack is too deep, it is retried in the next iteration; a
 * closed loop never runs it. Keeps the current exception. */
void core_link_schedule(core_link *link, PyObject *callback, PyObject *context);
/* core_link_schedule_rest: retries the callbacks that could not be scheduled. */
void core_link_schedule_rest(core_link *link);
/* core_link_wake_future: sets the result of a future of the loop, from any thread. */
void core_link_wake_future(core_link *link, PyObject *future);

#endif
