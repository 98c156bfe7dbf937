/* polling.c - polls for everything that the loops of a thread wait for, before they sleep. */
#include <sys/epoll.h>

#include "aio/asyncio.h"
#include "link.h"
#include "parked.h"
#include "polling.h"
#include "rpc/pump/pump.h"
#include "scheduling.h"

#define MAX_NESTING 32 /* sessions handled within each other */

/* expects: returns whether an event that the link's loop waits for is likely to arrive. */
static bool expects(const core_link *link) {
    return link->alive && (link->parked || link->polls_requests || link->session->forwarded);
}

/* polled_links: gets the links of the thread that expect something, without that of `s`; strong references. */
static int polled_links(core_session *s, core_thread *thread, core_link **ret_links) {
    int count = 0;
    for (core_link *link = thread->links; link && count < PISO_SESSIONS_MAX - 1; link = link->next_here)
        if (link->session && link->session != s && expects(link))
            ret_links[count++] = (core_link *)Py_NewRef((PyObject *)link);
    return count;
}

/* pass_on: handles the events of a session whose replies another process waits for: this thread must not wait for the
 * loop's next iteration, because what it waits for itself depends on them. Returns whether there were any. */
static bool pass_on(core_link *link, core_thread *thread, bool in_task) {
    core_session *s = link->session;
    if (!s || !s->forwarded || s->depth >= MAX_NESTING)
        return false;
    core_pump_context context = {.link = in_task ? NULL : link, .thread = thread, .in_task = in_task};
    Py_INCREF(s);
    s->depth++;
    int handled = core_pump(s, &context, 1);
    s->depth--;
    Py_DECREF(s);
    return handled > 0;
}

/* poll_with_others: polls `s` and what else the thread's loops wait for. Returns whether events of others were
 * handled. */
static bool poll_with_others(core_session *s, core_thread *thread, bool in_task) {
    core_link *links[PISO_SESSIONS_MAX];
    piso_session *sessions[PISO_SESSIONS_MAX] = {s->session};
    int count = polled_links(s, thread, links), came = 0;
    bool handled = false;
    for (int i = 0; i < count; i++) {
        bool first = links[i]->session->forwarded; /* its reply is what this wait is about */
        sessions[i + 1] = first ? sessions[0] : links[i]->handle;
        sessions[0] = first ? links[i]->handle : sessions[0];
        piso_session_poll_begin(links[i]->handle);
    }
    Py_BEGIN_ALLOW_THREADS came = piso_sessions_poll(sessions, count + 1);
    Py_END_ALLOW_THREADS thread->polled = !came;
    for (int i = 0; i < count; i++) {
        if (piso_session_poll_end(links[i]->handle) > 0 && links[i]->alive) {
            if (pass_on(links[i], thread, in_task))
                handled = true;
            else
                core_link_nudge(links[i]);
        }
        Py_DECREF(links[i]);
    }
    return handled;
}

core_polled core_links_poll(core_session *s, core_thread *thread, bool in_task) {
    bool handled = false;
    piso_session_poll_begin(s->session);
    if (!piso_session_look(s->session) && !thread->polled)
        handled = poll_with_others(s, thread, in_task);
    return piso_session_poll_end(s->session) > 0 ? CORE_POLLED_READY
           : handled                             ? CORE_POLLED_OTHER
                                                 : CORE_POLLED_NOTHING;
}

bool core_link_is_service(const core_link *link) {
    return link->loop && link->loop == core_link_state(link)->async->service_loop;
}

void core_service_watch(core_session *s, bool on) {
    for (core_link *link = s->links; link; link = link->next) {
        int fd = core_link_is_service(link) ? piso_session_fd(link->handle) : -1;
        if (fd >= 0) /* fails when the loop does not watch it yet */
            epoll_ctl(core_link_state(link)->async->service_epoll, EPOLL_CTL_MOD, fd,
                      &(struct epoll_event){.events = on ? EPOLLIN : 0, .data.fd = fd});
    }
}
