/* closing.c - the end of a link: its loop or its session has ended, or it is no longer needed. */
#include "closing.h"
#include "aio/asyncio.h"
#include "fd_reader.h"
#include "handler.h"
#include "link.h"
#include "parked.h"
#include "rpc/pump/pump.h"
#include "scheduling.h"
#include "timers.h"

void core_link_leave_thread(core_link *link) {
    core_thread *thread = link->home;
    if (!thread)
        return;
    core_link **at = &thread->links;
    while (*at && *at != link)
        at = &(*at)->next_here;
    if (*at)
        *at = link->next_here;
    link->home = core_thread_unref(thread);
}

void core_link_unlist(core_link *link) {
    core_session *s = link->session;
    if (!s)
        return;
    for (core_link **at = &s->links; *at; at = &(*at)->next)
        if (*at == link) {
            s->loops_asleep -= link->asleep;
            *at = link->next;
            link->next = NULL;
            link->session = NULL;
            Py_DECREF(link);
            return;
        }
}

static void detach(core_link *link) {
    Py_INCREF(link);
    core_link_unlist(link);
    link->session = NULL;
    if (link->alive && core_link_is_here(link)) {
        core_link_stop(link);
    } else if (link->alive) {
        PyObject *callback = PyObject_GetAttrString((PyObject *)link, "stop");
        if (callback)
            core_link_schedule(link, callback, NULL);
        PyErr_Clear(); /* out of memory: the reader stays until its loop closes, and does nothing */
        Py_XDECREF(callback);
    }
    Py_DECREF(link);
}

void core_links_detach(core_session *s) {
    while (s->links)
        detach(s->links);
}

void core_link_closed(core_link *link) {
    core_session *s = (core_session *)Py_XNewRef((PyObject *)link->session);
    Py_INCREF(link);
    link->alive = false;
    core_link_wake(link);
    core_link_leave_thread(link);
    while (link->parked)
        core_call_unpark(link->parked);
    core_link_unlist(link);
    if (s)
        core_handlers_end(s, link);
    core_reroute(&link->inbox);
    Py_XDECREF(s);
    Py_CLEAR(link->unscheduled);
    core_link_drop_timer(link);
    Py_CLEAR(link->rearm);
    Py_CLEAR(link->loop);
    Py_CLEAR(link->token);
    Py_DECREF(link);
}

void core_link_stop(core_link *link) {
    if (!link->alive)
        return;
    Py_INCREF(link);
    core_fd_reader_remove(core_link_state(link), link->loop, link->handle);
    core_link_closed(link);
    Py_DECREF(link);
}

void core_closing_init(core_state *state) {
    state->async->loop_closed = core_link_closed;
}
