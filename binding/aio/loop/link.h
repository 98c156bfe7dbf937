/* link.h - a Link: connects a session to an event loop.
 *
 * A link is awake while its loop runs callbacks, and asleep while the loop may be blocked in its selector: only then
 * must the peer ring the doorbell. Code that finds a link of its own thread asleep wakes it (core_links_wake) and
 * schedules one `rearm` with call_soon; so a loop that makes a thousand calls in one iteration arms and disarms once.
 * Invariant: a link that is alive is asleep, or has a rearm scheduled, or is in core_link_run. The loop owns a reader
 * (fd_reader.h).
 *
 * A method of a loop may be Python code. During it signal handlers, other threads and the garbage collector may run:
 * afterwards the link may have been closed, and only the caller's own reference to it is valid. A signal handler may
 * also raise: what the loop may not have registered then is registered again in its next iteration. */
#ifndef BINDING_LINK_H
#define BINDING_LINK_H

#include "rpc/object.h"

struct core_link {
    PyObject_HEAD core_session *session; /* borrowed; NULL once detached */
    piso_session *handle;                /* strong: the file descriptor must outlive the loop's reader */
    core_link *next;                     /* session->links, which holds a reference */
    core_thread *home;                   /* the thread that runs the loop; NULL: not started */
    core_link *next_here;                /* home->links */
    PyObject *loop;                      /* strong until the loop closes */
    PyObject *token;                     /* core_running_token() when the loop was last seen running, or NULL */
    unsigned long thread;                /* id of the thread that runs the loop */
    bool alive;                          /* the reader is registered */
    bool asleep;                         /* piso_session_sleep_begin has been called for this loop */
    bool rearm_scheduled;                /* call_soon(rearm) has been called */
    bool polls_requests;                 /* in the child's main loop: poll for requests before sleeping */
    bool yielded;                        /* its last iteration ended early for ready tasks: the next one polls */
    bool trim_scheduled;
    uint64_t trim_seen; /* the session's buffer_uses when the trim timer was set */
    unsigned blocked;   /* synchronous waits of this loop's thread */
    unsigned held;      /* references of callers that are about to schedule work on it */
    PyObject *timer;    /* the loop's handle of the expiry timer, or NULL */
    int64_t timer_ns;   /* when it fires; PISO_NO_DEADLINE: not set */
    core_call *parked;
    core_inbox inbox;       /* requests for this loop from other threads, or from times when it could not run them */
    PyObject *unscheduled;  /* list: callbacks that the loop failed to schedule, to be retried; or NULL */
    core_handler *finished; /* their replies wait until their tasks have ended (handler.c), a reference each */
    unsigned suspended;     /* handlers that await something */
    PyObject *rearm;        /* bound method, created once */
};

static inline core_state *core_link_state(const core_link *link) {
    return core_type_state(Py_TYPE(link));
}
static inline bool core_link_is_here(const core_link *link) {
    return link->thread == PyThread_get_thread_ident();
}

#endif
