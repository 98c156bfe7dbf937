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
    PyObject *holder;                    /* core_running_holder() when it was last seen running, or NULL */
    unsigned long thread;                /* that runs the loop */
    bool alive;                          /* the reader is registered */
    bool asleep;                         /* piso_session_sleep_begin has been called for this loop */
    bool rearm_scheduled;                /* a call_soon(rearm) is on its way */
    bool handles;                        /* requests: the child's main loop: poll before sleeping */
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

/* ---- scheduling.c ---- */

/* core_link_wake: it does not sleep any more. core_link_rearm: has the loop give it a turn. */
void core_link_wake(core_link *link);
void core_link_rearm(core_link *link);
/* core_link_nudge: its loop takes a turn soon, whatever thread this is. */
void core_link_nudge(core_link *link);
/* core_links_wake: a loop of this thread that has gone to sleep is awake again, and will re-arm by itself. */
void core_links_wake(core_session *s);
/* core_link_schedule: has the loop call something, in a context (or NULL). What the loop does not take now, because the
 * handler of a signal has raised in its code or the stack is too deep, it gets at its next turn; a loop that is closed
 * never does. Keeps the current exception. */
void core_link_schedule(core_link *link, PyObject *callback, PyObject *context);
/* core_link_schedule_rest: what the loop could not be told before. */
void core_link_schedule_rest(core_link *link);
/* core_link_wake_future: sets the result of a future of the loop, on the loop's thread or from another. */
void core_link_wake_future(core_link *link, PyObject *future);

/* ---- polling.c ---- */

/* core_links_poll: polls without the GIL for what `s` gets, and for what else loops of this thread wait for: 1: something
 * is there for `s`; 0: not. Once in vain, it is not done again before one of the loops has had a turn. */
int core_links_poll(core_session *s, core_thread *thread);
/* core_service_watch: whether the service loop is woken by what the peer sends; not while a thread sleeps for it, which
 * takes it, and would be in its way. */
void core_service_watch(core_session *s, bool on);
bool core_link_is_of_service(const core_link *link);

/* ---- timers.c ---- */

/* core_link_watch_deadline: sees to it that the loop wakes up at that time. core_link_drop_timer: it need not. */
void core_link_watch_deadline(core_link *link, int64_t deadline_ns);
void core_link_drop_timer(core_link *link);
/* core_links_trim_later: a message with shared buffers was sent: give free ones back once the session has been
 * idle for a second. core_link_trim_after_pause: starts that pause. */
void core_links_trim_later(core_session *s);
void core_link_trim_after_pause(core_link *link);

/* ---- closing.c ---- */

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

/* ---- iteration.c ---- */

/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link);

/* ---- link.c ---- */

int core_link_init(PyObject *module, core_state *state);
/* core_link_for_loop: the session's link for this loop, made and registered if needed; a new reference, since it
 * may have been closed again when this returns. The link of the service loop does not leave before core_link_let_go. */
core_link *core_link_for_loop(core_session *s, PyObject *loop);
void core_link_let_go(core_link *link); /* takes NULL */
/* core_link_here: the same for the loop that runs in this thread, alive; NULL with an exception when none does, or the
 * session has ended meanwhile. */
core_link *core_link_here(core_session *s);
/* core_links_know: before a call is made: if a loop runs in this thread, it is known, so that it gets what is called
 * back. */
void core_links_know(core_session *s);
/* core_link_handle: makes this loop poll for requests before it sleeps. */
void core_link_handle(core_link *link);

#endif
