/* closing.h - the end of a link. */
#ifndef BINDING_CLOSING_H
#define BINDING_CLOSING_H

#include "link.h"

void core_closing_init(core_state *state);
/* core_link_stop: on the loop's thread: takes the reader away, and closes the link. */
void core_link_stop(core_link *link);
/* core_link_closed: the loop has gone. What was parked on it stays pending, but nobody waits there any more. */
void core_link_closed(core_link *link);
/* core_link_unlist: takes the link out of its session's list, which owned a reference. */
void core_link_unlist(core_link *link);
/* core_link_leave_thread: its thread does not poll for it any more. */
void core_link_leave_thread(core_link *link);
void core_links_detach(core_session *s);

#endif
