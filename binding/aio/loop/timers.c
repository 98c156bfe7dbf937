/* timers.c - the timers of a link: deadlines of calls, releasing memory. */
#include "timers.h"
#include "aio/asyncio.h"
#include "link.h"
#include "scheduling.h"

#define TRIM_SECONDS 1.0

/* call_later: returns the loop's handle; NULL, without an exception, if the loop is closed, and so nothing waits any
 * more, or if it was interrupted. */
static PyObject *call_later(core_link *link, double seconds, const char *method) {
    PyObject *callback = PyObject_GetAttrString((PyObject *)link, method);
    PyObject *delay = callback ? PyFloat_FromDouble(seconds) : NULL;
    PyObject *handle = NULL;
    if (delay) {
        PyObject *args[4] = {NULL, link->loop, delay, callback};
        handle = core_loop_call(core_link_state(link), link->loop, core_link_state(link)->async->call_later, args + 1,
                                3, NULL, NULL);
    }
    if (!delay)
        PyErr_Clear(); /* out of memory */
    Py_XDECREF(callback);
    Py_XDECREF(delay);
    return handle;
}

/* core_link_drop_timer: otherwise the loop would keep the link, and with it the session's memory, until the
 * deadline. */
void core_link_drop_timer(core_link *link) {
    PyObject *timer = link->timer;
    link->timer = NULL;
    link->timer_ns = PISO_NO_DEADLINE;
    PyObject *args[2] = {NULL, timer};
    Py_XDECREF(timer ? core_loop_call(core_link_state(link), link->loop, core_link_state(link)->async->cancel, args + 1,
                                      1, NULL, NULL)
                     : NULL);
    Py_XDECREF(timer);
}

void core_link_trim_after_pause(core_link *link) {
    if (!link->session || !link->alive)
        return;
    link->trim_seen = link->session->buffer_uses;
    PyObject *handle = call_later(link, TRIM_SECONDS, "trim");
    link->trim_scheduled = handle != NULL;
    Py_XDECREF(handle);
}

void core_links_trim_later(core_session *s) {
    s->buffer_uses++;
    core_link *link = s->links;
    if (!link || !link->alive || link->trim_scheduled)
        return;
    link->trim_scheduled = true;
    Py_INCREF(link);
    PyObject *callback = NULL;
    if (core_link_is_here(link))
        core_link_trim_after_pause(link);
    else if ((callback = PyObject_GetAttrString((PyObject *)link, "trim_later")))
        core_link_schedule(link, callback, NULL);
    else
        PyErr_Clear(); /* out of memory: the memory is released after the next use */
    Py_XDECREF(callback);
    Py_DECREF(link);
}

void core_link_watch_deadline(core_link *link, int64_t deadline_ns) {
    if (deadline_ns >= link->timer_ns)
        return;
    double seconds = (double)(deadline_ns - piso_now_ns()) / 1e9;
    Py_INCREF(link);
    PyObject *timer = call_later(link, seconds > 0 ? seconds : 0, "expire");
    if (timer) {
        core_link_drop_timer(link);
        link->timer = timer;
        link->timer_ns = deadline_ns;
        if (!link->alive)
            core_link_drop_timer(link);
    }
    Py_DECREF(link);
}
