/* timers.h - timers of a loop: the next deadline, and giving back free buffers after a pause. */
#ifndef BINDING_TIMERS_H
#define BINDING_TIMERS_H

#include "link.h"

/* core_link_watch_deadline: sees to it that the loop wakes up at that time. core_link_drop_timer: it need not. */
void core_link_watch_deadline(core_link *link, int64_t deadline_ns);
void core_link_drop_timer(core_link *link);
/* core_links_trim_later: a message with shared buffers was sent: give free ones back once the session has been
 * idle for a second. core_link_trim_after_pause: starts that pause. */
void core_links_trim_later(core_session *s);
void core_link_trim_after_pause(core_link *link);

#endif
