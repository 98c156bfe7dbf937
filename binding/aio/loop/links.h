/* links.h - the links of a session: made, found, let go. */
#ifndef BINDING_LINKS_H
#define BINDING_LINKS_H

#include "link.h"

int core_link_init(PyObject *module, core_state *state);
/* core_link_for_loop: the session's link for this loop, made and registered if needed; a new reference, since it
 * may have been closed again when this returns. The link of the service loop does not leave before core_link_release. */
core_link *core_link_for_loop(core_session *s, PyObject *loop);
void core_link_release(core_link *link); /* takes NULL */
/* core_link_here: the same for the loop that runs in this thread, alive; NULL with an exception when none does, or the
 * session has ended meanwhile. */
core_link *core_link_here(core_session *s);
/* core_links_ensure_here: before a call is made: if a loop runs in this thread, it is known, so that it gets what is called
 * back. */
void core_links_ensure_here(core_session *s);
/* core_link_poll_requests: makes this loop poll for requests before it sleeps. */
void core_link_poll_requests(core_link *link);

#endif
