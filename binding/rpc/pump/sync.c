/* sync.c - calls from threads that wait without an event loop.
 *
 * The thread polls briefly, then waits for the session's file descriptor without the GIL. Another thread or loop may
 * take the reply from the session meanwhile; it then wakes this thread through its own eventfd. While it waits, the
 * thread runs the requests that are made in the handler of its call, or of an outer one: plain functions in this
 * thread, because they may hold or need what belongs to it (a lock, a connection to a database); coroutines on a loop
 * that runs in another thread. */
#include <errno.h>
#include <time.h>

#include "common/interruption.h"
#include "pump.h"
#include "rpc/send.h"
#include "rpc/session_error.h"
#include "sync.h"

/* A signal that arrives between the check and the wait is seen after this time at the latest. */
#define SIGNAL_CHECK_NS 250000000
#define MAX_POLLS       64
#define ARRIVAL_NS      50000
#define PUMP_LIMIT      64

typedef struct core_wait {
    core_pending pending;
    core_session *session;
    core_thread *thread;
    struct core_wait *outer; /* of the same thread */
} core_wait;

/* ---- waiting ---- */

static bool waiting(const core_wait *w) {
    return w->pending.outcome == CORE_PENDING;
}

/* run_own: runs the requests that belong to this thread. */
static void run_own(core_wait *w, core_pump_context *context) {
    if (w->thread->inbox.first && w->thread->nested < CORE_MAX_NESTING)
        core_run_inbox(&w->thread->inbox, context, PUMP_LIMIT);
}

static void poll_briefly(core_session *s, core_wait *w, core_pump_context *context) {
    for (int i = 0; i < MAX_POLLS && waiting(w); i++) { /* then the deadline and signals are checked */
        piso_session_poll_begin(s->session);
        int ready = piso_session_look(s->session);
        if (!ready) {
            Py_BEGIN_ALLOW_THREADS ready = piso_sessions_poll(&s->session, 1);
            Py_END_ALLOW_THREADS
        }
        ready |= piso_session_poll_end(s->session) > 0;
        int handled = ready ? core_pump(s, context, PUMP_LIMIT) : 0;
        run_own(w, context);
        if (handled == 0)
            return;
    }
}

/* waited_sessions: gets the sessions of this thread's waits, each once: requests for an outer wait are run in this one,
 * too. */
static int waited_sessions(core_wait *w, core_session **ret_sessions) {
    int count = 0;
    for (; w && count < PISO_SESSIONS_MAX; w = w->outer) {
        bool known = w->session->closed;
        for (int i = 0; i < count && !known; i++)
            known = ret_sessions[i] == w->session;
        if (!known)
            ret_sessions[count++] = w->session;
    }
    return count;
}

/* sleep_on: sleeps until an event is available for one of the sessions, or the thread is woken. If this call's session
 * is the only one, it is polled afterwards, as the context says. */
static int sleep_on(core_wait *w, core_session **sessions, int count, int wake_fd, int64_t timeout,
                    core_pump_context *context) {
    bool polls = count == 1 && sessions[0] == w->session;
    piso_session *handles[PISO_SESSIONS_MAX];
    int r;
    for (int i = 0; i < count; i++) {
        handles[i] = sessions[i]->session;
        if (sessions[i]->sync_sleepers++ == 0)
            sessions[i]->on->sleeps(sessions[i], true);
    }
    context->polls = polls;
    Py_BEGIN_ALLOW_THREADS if (polls) r = piso_session_wait_polled(handles[0], wake_fd, timeout);
    else r = piso_sessions_wait(handles, count, wake_fd, timeout);
    Py_END_ALLOW_THREADS for (int i = 0; i < count; i++) if (--sessions[i]->sync_sleepers == 0) sessions[i]->on->sleeps(
        sessions[i], false);
    return r;
}

/* wait_once: sleeps until something has happened or the deadline has passed. Returns 0 or -1 with an exception. */
static int wait_once(core_wait *w, core_pump_context *context) {
    if (piso_session_state(w->session->session) ==
        PISO_EFORKED) { /* forked by a handler that ran here: there will be no reply */
        core_session_error(w->session, PISO_EFORKED, &w->pending);
        return -1;
    }
    int64_t timeout = SIGNAL_CHECK_NS, deadline = w->pending.call.deadline_ns;
    if (deadline != PISO_NO_DEADLINE) {
        int64_t left = deadline - piso_now_ns();
        timeout = left < 0 ? 0 : left < timeout ? left : timeout;
    }
    core_session *sessions[PISO_SESSIONS_MAX];
    int count = waited_sessions(w, sessions), wake_fd = core_thread_fd(w->thread);
    if (wake_fd < 0)
        return -1;
    int r = count ? sleep_on(w, sessions, count, wake_fd, timeout, context) : 0;
    if (r == 2) /* perhaps for an outer call of this thread, which checks when this one has ended */
        core_thread_clear_wake(w->thread);
    if (deadline != PISO_NO_DEADLINE && piso_now_ns() >= deadline)
        piso_session_expire(w->session->session);
    if (r < 0 && r != -EINTR) {
        core_session_error(w->session, r, &w->pending);
        return -1;
    }
    for (int i = 1; i < count; i++)
        core_pump(sessions[i], context, PUMP_LIMIT);
    return Py_MakePendingCalls() < 0 ? -1 : core_raise_interruption(w->session->state);
}

static int wait_for(core_session *s, core_wait *w) {
    core_pump_context context = {.waits = true, .thread = w->thread};
    for (;;) {
        poll_briefly(s, w, &context);
        core_pump_leftovers(s, &context);
        if (!waiting(w))
            return 0;
        /* without a loop of the application, requests that arrive while nobody waits are handled by the service loop */
        if (!s->closed && s->on->wait(s) < 0)
            return -1;
        int r = wait_once(w, &context);
        if (r == 0)
            core_pump(s, &context, PUMP_LIMIT);
        core_pump_end_poll(s, &context);
        if (r < 0)
            return -1;
        run_own(w, &context);
        if (!waiting(w)) {
            core_pump_leftovers(s, &context);
            return 0;
        }
    }
}

PyObject *core_sync_call(const core_callee *to, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    core_session *s = to->session;
    core_wait w = {.session = s, .thread = core_thread_here()};
    core_pending_init(&w.pending, to);
    w.pending.waiter = w.thread;
    if (!w.thread || core_send(to, &w.pending, args, nargs, kwnames) < 0) {
        core_pending_fini(&w.pending);
        return NULL;
    }
    Py_INCREF(s); /* requests handled meanwhile may drop the last reference to it */
    w.outer = w.thread->wait;
    w.thread->wait = &w;
    s->on->block(w.thread, true);
    int r = wait_for(s, &w);
    PyObject *result = NULL;
    if (r == 0)
        r = core_raise_interruption(s->state);
    if (r == 0)
        result = core_pending_take(&w.pending);
    else
        piso_session_forget(s->session, &w.pending.call, true);
    while (w.pending.arriving) { /* in another thread, which writes to `w` at the end */
        struct timespec moment = {.tv_nsec = ARRIVAL_NS};
        Py_BEGIN_ALLOW_THREADS nanosleep(&moment, NULL);
        Py_END_ALLOW_THREADS
    }
    w.thread->wait = w.outer;
    s->on->block(w.thread, false);
    if (!w.outer && w.thread->inbox.first) /* for calls that were given up */
        core_reroute(&w.thread->inbox);
    if (w.pending.woken)
        core_thread_clear_wake(w.thread);
    core_pending_fini(&w.pending); /* its value: a reply that arrived together with the signal */
    Py_DECREF(s);
    return result;
}
