/* scheduling.h - what a loop is to do soon: wake up, take a turn, call something. */
#ifndef BINDING_SCHEDULING_H
#define BINDING_SCHEDULING_H

#include "link.h"

/* core_link_wake: it does not sleep any more. core_link_rearm: has the loop give it a turn. */
void core_link_wake(core_link *link);
void core_link_rearm(core_link *link);
/* core_link_nudge: its loop takes a turn soon, whatever thread this is. */
void core_link_nudge(core_link *link);
/* core_links_wake: a loop of this thread that has gone to sleep is awake again, and will re-arm by itself. */
void core_links_wake(core_session *s);
/* core_link_schedule: has the loop call something, in a context (or NULL). What the loop does not take now, because the
 * handler of a signal has raised in its code or the stack is too deep, it gets at its next turn; a loop that is closed
 * never does. Keeps the current exception. */
void core_link_schedule(core_link *link, PyObject *callback, PyObject *context);
/* core_link_schedule_rest: what the loop could not be told before. */
void core_link_schedule_rest(core_link *link);
/* core_link_wake_future: sets the result of a future of the loop, on the loop's thread or from another. */
void core_link_wake_future(core_link *link, PyObject *future);

#endif
