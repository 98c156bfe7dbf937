/* iteration.c - how a session and an event loop wake each other.
 *
 * A link is awake while its loop runs callbacks and asleep while the loop may be blocked in its selector: only
 * then must the peer ring the doorbell. Whoever finds a link asleep on its own thread wakes it (core_links_wake)
 * and schedules one `rearm` with call_soon; so a loop that makes a thousand calls in one iteration arms and
 * disarms once. Invariant: a link that is alive is asleep, or has a rearm scheduled, or is in core_link_run.
 * The loop owns a reader (reader.h).
 *
 * A method of a loop may be Python code. Within it handlers of signals run, other threads, and what a collection of
 * garbage brings: afterwards the link may have been closed, and dropped by all but who holds a reference here. Such a
 * handler may raise, too: what the loop may not have been told then, it is told again at its next turn. */
#include <sys/epoll.h>

#include "asyncio.h"
#include "link.h"

#define PUMP_LIMIT 256
#define SLICE_NS   1000000 /* how long one callback may serve requests before the loop gets its turn */

static core_async_state *async_of(const core_link *link) {
    return core_type_state(Py_TYPE(link))->async;
}

/* ---- going to sleep and waking ---- */

void core_link_wake(core_link *link) {
    if (link->asleep) {
        link->asleep = false;
        piso_session_sleep_end(link->handle);
    }
}

/* try_again: at the loop's next turn, which the session's own descriptor brings about. */
static void try_again(core_link *link, PyObject *callback, PyObject *context) {
    PyObject *pair = PyTuple_Pack(2, callback, context ? context : Py_None);
    if (pair && !link->unscheduled)
        link->unscheduled = PyList_New(0);
    if (!pair || !link->unscheduled || PyList_Append(link->unscheduled, pair) < 0)
        PyErr_Clear(); /* out of memory as well */
    Py_XDECREF(pair);
    piso_session_nudge(link->handle);
}

/* schedule: whether the loop will call it, now or later; not if it is closed. */
static bool schedule(core_link *link, PyObject *callback, PyObject *context) {
    core_async_state *a = async_of(link);
    PyObject *args[4] = {NULL, link->loop, callback, context};
    PyObject *method = core_link_is_here(link) ? a->call_soon : a->call_soon_threadsafe;
    bool again;
    PyObject *handle = core_loop_call(core_type_state(Py_TYPE(link)), link->loop, method, args + 1, 2,
                                      context ? a->context_name : NULL, &again);
    if (!handle && again)
        try_again(link, callback, context);
    Py_XDECREF(handle);
    return handle || again;
}

void core_link_schedule(core_link *link, PyObject *callback, PyObject *context) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_INCREF(link);
    if (!schedule(link, callback, context))
        core_link_closed(link); /* and with the loop everything that waits on it */
    Py_DECREF(link);
    PyErr_Restore(type, value, traceback);
}

void core_link_rearm(core_link *link) {
    if (link->rearm_scheduled || !link->alive)
        return;
    link->rearm_scheduled = true;
    core_link_schedule(link, link->rearm, NULL);
}

/* schedule_rest: what the loop could not be told before. */
static void schedule_rest(core_link *link) {
    PyObject *rest = link->unscheduled;
    link->unscheduled = NULL;
    for (Py_ssize_t i = 0; rest && i < PyList_GET_SIZE(rest); i++) {
        PyObject *pair = PyList_GET_ITEM(rest, i), *context = PyTuple_GET_ITEM(pair, 1);
        core_link_schedule(link, PyTuple_GET_ITEM(pair, 0), context == Py_None ? NULL : context);
    }
    Py_XDECREF(rest);
}

void core_links_wake(core_session *s) {
    for (core_link *link = s->links; link; link = link->next)
        if (link->asleep && core_link_is_here(link)) {
            core_link_wake(link);
            core_link_rearm(link);
            return; /* schedule may have changed the list; one loop runs in a thread */
        }
}

void core_link_nudge(core_link *link) {
    if (core_link_is_here(link)) {
        core_link_wake(link);
        core_link_rearm(link);
    } else if (link->rearm) {
        core_link_schedule(link, link->rearm, NULL);
    }
}

/* ---- polling ---- */

/* expects: whether something is likely to come that the link's loop waits for. */
static bool expects(const core_link *link) {
    return link->alive && (link->parked || link->serving);
}

/* polled_links: those of the thread that expect something, besides that of `s`: references. */
static int polled_links(core_session *s, core_thread *thread, core_link **ret_links) {
    int count = 0;
    for (core_link *link = thread->links; link && count < PISO_SESSIONS_MAX - 1; link = link->next_here)
        if (link->session && link->session != s && expects(link))
            ret_links[count++] = (core_link *)Py_NewRef((PyObject *)link);
    return count;
}

/* poll_with_others: that of `s` and what else the thread's loops wait for. */
static void poll_with_others(core_session *s, core_thread *thread) {
    core_link *links[PISO_SESSIONS_MAX];
    piso_session *sessions[PISO_SESSIONS_MAX] = {s->session};
    int count = polled_links(s, thread, links), came = 0;
    for (int i = 0; i < count; i++) {
        sessions[i + 1] = links[i]->handle;
        piso_session_poll_begin(links[i]->handle);
    }
    Py_BEGIN_ALLOW_THREADS came = piso_sessions_poll(sessions, count + 1);
    Py_END_ALLOW_THREADS thread->polled = !came;
    for (int i = 0; i < count; i++) {
        if (piso_session_poll_end(links[i]->handle) > 0 && links[i]->alive)
            core_link_nudge(links[i]);
        Py_DECREF(links[i]);
    }
}

int core_links_poll(core_session *s, core_thread *thread) {
    piso_session_poll_begin(s->session);
    if (!piso_session_look(s->session) && !thread->polled)
        poll_with_others(s, thread);
    return piso_session_poll_end(s->session) > 0;
}

bool core_link_is_of_service(const core_link *link) {
    return link->loop && link->loop == async_of(link)->service_loop;
}

void core_service_watch(core_session *s, bool on) {
    for (core_link *link = s->links; link; link = link->next) {
        int fd = core_link_is_of_service(link) ? piso_session_fd(link->handle) : -1;
        if (fd >= 0) /* with an error when the loop has not begun to watch it */
            epoll_ctl(async_of(link)->service_epoll, EPOLL_CTL_MOD, fd,
                      &(struct epoll_event){.events = on ? EPOLLIN : 0, .data.fd = fd});
    }
}

/* is_done: the service loop, which serves a session that has another home, has nothing to do for it any more. */
static bool is_done(const core_link *link) {
    return core_link_is_of_service(link) && link->session && link->session->links != link && !link->parked &&
           !link->suspended && !link->inbox.first && !link->finished && !link->held;
}

/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link) {
    core_session *s = link->session;
    core_thread *thread = link->home;
    bool polls = link->gave_way;
    link->gave_way = false;
    if (thread && !polls)
        thread->polled = false;
    core_link_wake(link);
    if (link->unscheduled)
        schedule_rest(link);
    if (!s || !link->alive || !thread)
        return;
    Py_INCREF(s);
    Py_INCREF(link);
    core_thread_ref(thread);
    int64_t slice_end = piso_now_ns() + SLICE_NS;
    core_pump_context context = {.link = link, .thread = thread};
    int rounds = 0;
    for (;;) {
        core_handlers_answer(link);
        int handled = core_run_inbox(&link->inbox, &context, PUMP_LIMIT) + core_pump(s, &context, PUMP_LIMIT);
        if (!link->alive || !link->session || s->closed)
            break;
        /* tasks that can go on come first; a busy peer must not starve the loop */
        bool turn = thread->due || context.started || link->finished || link->inbox.first;
        if (turn || (rounds++ + handled > 0 && piso_now_ns() > slice_end)) {
            link->gave_way = turn;
            core_link_rearm(link);
            break;
        }
        if ((handled || polls || link->serving) && core_links_poll(s, thread))
            continue;
        if (link->rearm_scheduled)
            break; /* while others had the GIL */
        if (is_done(link)) {
            core_link_stop(link);
            break;
        }
        int r = piso_session_sleep_begin(link->handle);
        link->asleep = true;
        if (r <= 0)
            break;
        core_link_wake(link);
    }
    core_thread_unref(thread);
    Py_DECREF(link);
    Py_DECREF(s);
}
