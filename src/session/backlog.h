/* backlog.h - the backlog: calls that wait until the peer accepts one more. */
#ifndef PISO_SESSION_BACKLOG_H
#define PISO_SESSION_BACKLOG_H

#include "session/object.h"

/* piso__backlog_add: keeps a call until the peer accepts one more. Takes what the writer holds. 0 or -ENOMEM. */
int piso__backlog_add(piso_session *s, piso_call *call, const piso__frame *frame, int64_t deadline_ns, piso_writer *w);
/* piso__backlog_flush: sends as many calls as the peer accepts now. */
void piso__backlog_flush(piso_session *s);
/* piso__backlog_forget: nobody waits for the reply to this call of the backlog. With `drop` it is not sent. */
void piso__backlog_forget(piso_session *s, piso_call *call, bool drop);
/* piso__backlog_expire: takes out the calls whose deadline has passed and passes each to `expire`. Returns the
 * earliest deadline of the others. */
int64_t piso__backlog_expire(piso_session *s, int64_t now, void (*expire)(piso_session *, piso_call *));
/* piso__backlog_take_any: takes out a call that somebody waits for, and returns it; NULL when there is none
 * left. Sends nothing. */
piso_call *piso__backlog_take_any(piso_session *s);

#endif
