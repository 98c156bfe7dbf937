/* links.h - creates, finds and releases the links of a session. */
#ifndef BINDING_LINKS_H
#define BINDING_LINKS_H

#include "link.h"

int core_link_init(PyObject *module, core_state *state);
/* core_link_for_loop: returns the session's link for this loop, created and registered if needed; a new reference,
 * because it may have been closed again on return. The link of the service loop stays until core_link_release. */
core_link *core_link_for_loop(core_session *s, PyObject *loop);
void core_link_release(core_link *link); /* accepts NULL */
/* core_link_here: the same for the loop that runs in this thread, alive; NULL with an exception when no loop runs, or
 * the session has ended meanwhile. */
core_link *core_link_here(core_session *s);
/* core_links_ensure_here: called before a call is made: if a loop runs in this thread, ensures that it has a link,
 * which receives callbacks of the call. */
void core_links_ensure_here(core_session *s);
/* core_link_poll_requests: makes this loop poll for requests before it sleeps. */
void core_link_poll_requests(core_link *link);

#endif
