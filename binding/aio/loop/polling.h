/* polling.h - polls before a loop sleeps, and sets what wakes the service loop. */
#ifndef BINDING_POLLING_H
#define BINDING_POLLING_H

#include "link.h"

/* core_polled: CORE_POLLED_READY: there is something for the session. _OTHER: messages that other processes wait for
 * were passed on, and the caller may poll again. */
typedef enum core_polled { CORE_POLLED_NOTHING, CORE_POLLED_READY, CORE_POLLED_OTHER } core_polled;
/* core_links_poll: polls, without the GIL, for events of `s` and for everything else that loops of this thread wait
 * for. After a poll without success, does nothing until the next iteration of one of the loops. `in_task`: a task may be
 * current. */
core_polled core_links_poll(core_session *s, core_thread *thread, bool in_task);
/* core_service_watch: sets whether the peer's messages wake the service loop. They do not while a thread sleeps in a
 * wait for the session: that thread takes them. */
void core_service_watch(core_session *s, bool on);
bool core_link_is_service(const core_link *link);

#endif
