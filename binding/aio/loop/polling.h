/* polling.h - polling before a loop sleeps, and what wakes the service loop. */
#ifndef BINDING_POLLING_H
#define BINDING_POLLING_H

#include "link.h"

/* core_links_poll: polls without the GIL for what `s` gets, and for what else loops of this thread wait for: 1: something
 * is there for `s`; 0: not. Once in vain, it is not done again before one of the loops has had a turn. */
int core_links_poll(core_session *s, core_thread *thread);
/* core_service_watch: whether the service loop is woken by what the peer sends; not while a thread sleeps for it, which
 * takes it, and would be in its way. */
void core_service_watch(core_session *s, bool on);
bool core_link_is_service(const core_link *link);

#endif
