/* polling.h - polls before a loop sleeps, and sets what wakes the service loop. */
#ifndef BINDING_POLLING_H
#define BINDING_POLLING_H

#include "link.h"

/* core_links_poll: polls, without the GIL, for events of `s` and for everything else that loops of this thread wait
 * for. Returns 1 if there is something for `s`, else 0. After a poll without success, does nothing until the next
 * iteration of one of the loops. */
int core_links_poll(core_session *s, core_thread *thread);
/* core_service_watch: sets whether the peer's messages wake the service loop. They do not while a thread sleeps in a
 * wait for the session: that thread takes them. */
void core_service_watch(core_session *s, bool on);
bool core_link_is_service(const core_link *link);

#endif
