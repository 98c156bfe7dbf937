/* timers.h - timers of a link: the next deadline, and releasing free buffers after a pause. */
#ifndef BINDING_TIMERS_H
#define BINDING_TIMERS_H

#include "link.h"

/* core_link_watch_deadline: sets a timer of the loop for that time. core_link_drop_timer: cancels it. */
void core_link_watch_deadline(core_link *link, int64_t deadline_ns);
void core_link_drop_timer(core_link *link);
/* core_links_trim_later: called when a message with shared buffers was sent: releases free ones once the session has
 * been idle for a second. core_link_trim_after_pause: starts that second. */
void core_links_trim_later(core_session *s);
void core_link_trim_after_pause(core_link *link);

#endif
