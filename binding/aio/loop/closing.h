/* closing.h - the end of a link: its loop or its session has ended, or it is no longer needed. */
#ifndef BINDING_CLOSING_H
#define BINDING_CLOSING_H

#include "link.h"

void core_closing_init(core_state *state);
/* core_link_stop: removes the reader and closes the link. Must be called in the loop's thread. */
void core_link_stop(core_link *link);
/* core_link_closed: called when the loop is gone. The calls parked on it stay pending, but no task waits for them. */
void core_link_closed(core_link *link);
/* core_link_unlist: removes the link from its session's list, and drops the list's reference. */
void core_link_unlist(core_link *link);
/* core_link_leave_thread: its thread no longer polls for it. */
void core_link_leave_thread(core_link *link);
void core_links_detach(core_session *s);

#endif
