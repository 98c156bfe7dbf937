/* link.h - a Link: a session's place in an event loop, and what is done there.
 *
 * A link is awake while its loop runs callbacks and asleep while the loop may be blocked in its selector: only
 * then must the peer ring the doorbell. Whoever finds a link asleep on its own thread wakes it (core_links_wake)
 * and schedules one `rearm` with call_soon; so a loop that makes a thousand calls in one iteration arms and
 * disarms once. Invariant: a link that is alive is asleep, or has a rearm scheduled, or is in core_link_run.
 * The loop owns a reader (fd_reader.h).
 *
 * A method of a loop may be Python code. Within it handlers of signals run, other threads, and what a collection of
 * garbage brings: afterwards the link may have been closed, and dropped by all but who holds a reference here. Such a
 * handler may raise, too: what the loop may not have been told then, it is told again at its next turn. */
#ifndef BINDING_LINK_H
#define BINDING_LINK_H

#include "rpc/pump.h"

struct core_link {
    PyObject_HEAD core_session *session; /* borrowed; NULL once detached */
    piso_session *handle;                /* own reference: the descriptor must outlive the loop's reader */
    core_link *next;                     /* session->links, which owns a reference */
    core_thread *home;                   /* that runs the loop; NULL: not started */
    core_link *next_here;                /* home->links */
    PyObject *loop;                      /* strong until the loop closes */
    PyObject *token;                    /* core_running_token() when it was last seen running, or NULL */
    unsigned long thread;                /* that runs the loop */
    bool alive;                          /* the reader is registered */
    bool asleep;                         /* piso_session_sleep_begin has been called for this loop */
    bool rearm_scheduled;                /* a call_soon(rearm) is on its way */
    bool polls_requests;                        /* requests: the child's main loop: poll before sleeping */
    bool yielded;                        /* its last turn ended for tasks that can go on: the next one polls */
    bool trim_scheduled;
    uint64_t trim_seen; /* session's buffer_uses when the trim timer was set */
    unsigned blocked;   /* synchronous waits that this loop's thread is in */
    unsigned held;      /* by those who are about to give it something to do */
    PyObject *timer;    /* the loop's handle of the expiry timer, or NULL */
    int64_t timer_ns;   /* when it fires, PISO_NO_DEADLINE: not set */
    core_call *parked;
    core_inbox inbox;       /* requests for this loop that came elsewhere, or when it could not run them */
    PyObject *unscheduled;  /* list: what the loop refused to schedule, to be tried again; or NULL */
    core_handler *finished; /* whose answers wait until their tasks have ended (handler.c), a reference each */
    unsigned suspended;     /* handlers that wait for something */
    PyObject *rearm;        /* bound method, made once */
};

static inline core_state *core_link_state(const core_link *link) {
    return core_type_state(Py_TYPE(link));
}
static inline bool core_link_is_here(const core_link *link) {
    return link->thread == PyThread_get_thread_ident();
}

#endif
