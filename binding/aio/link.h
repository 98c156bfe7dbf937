/* link.h - a Link, shared by link.c (its place in a loop), turn.c (what it does there) and reader.c (how the loop calls it). */
#ifndef BINDING_LINK_H
#define BINDING_LINK_H

#include "rpc/session.h"

static inline bool core_link_is_here(const core_link *link) {
    return link->thread == PyThread_get_thread_ident();
}

/* core_link_wake: it does not sleep any more. core_link_rearm: has the loop give it a turn. */
void core_link_wake(core_link *link);
void core_link_rearm(core_link *link);
bool core_link_is_of_service(const core_link *link);
/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link);
/* core_link_stop: on the loop's thread: takes the reader away, and closes the link. */
void core_link_stop(core_link *link);
/* core_link_closed: the loop has gone. What was parked on it stays pending, but nobody waits there any more. */
void core_link_closed(core_link *link);

#endif
