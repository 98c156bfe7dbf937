/* links.c - the type Link: creating one for a loop, and the methods that the loop calls. */
#include "links.h"
#include "aio/asyncio.h"
#include "closing.h"
#include "fd_reader.h"
#include "iteration.h"
#include "link.h"
#include "parked.h"
#include "polling.h"
#include "rpc/session_error.h"
#include "scheduling.h"
#include "timers.h"

#include "common/interruption.h"

/* back_to_loop: returns the result of a method that a loop calls. */
static PyObject *back_to_loop(core_link *link) {
    return core_raise_interruption(core_link_state(link)) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- methods that loops call ---- */

static PyObject *link_rearm(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    link->rearm_scheduled = false;
    core_link_run(link);
    return back_to_loop(link);
}

static PyObject *link_expire(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    Py_CLEAR(link->timer);
    link->timer_ns = PISO_NO_DEADLINE;
    if (link->session && link->alive) {
        int64_t next = piso_session_expire(link->handle);
        if (link->parked && next != PISO_NO_DEADLINE)
            core_link_watch_deadline(link, next);
        core_link_run(link);
    }
    return back_to_loop(link);
}

/* link_trim: one second after shared buffers were used: releases free ones if the session has been idle since. */
static PyObject *link_trim(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    link->trim_scheduled = false;
    if (!link->session || !link->alive)
        Py_RETURN_NONE;
    if (link->trim_seen != link->session->buffer_uses) {
        core_link_trim_after_pause(link);
        Py_RETURN_NONE;
    }
    core_link_run(link); /* first take the releases that have arrived */
    piso_session_flush(link->handle);
    piso_session_trim(link->handle, 0);
    return back_to_loop(link);
}

static PyObject *link_trim_later(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link_trim_after_pause((core_link *)self);
    Py_RETURN_NONE;
}

/* ---- registering with a loop ---- */

static piso_session *reader_session(PyObject *link) {
    return ((core_link *)link)->handle;
}

static void reader_ready(PyObject *link) {
    core_link_run((core_link *)link);
}

static void reader_dropped(PyObject *link) {
    if (((core_link *)link)->alive)
        core_link_closed((core_link *)link);
}

static const core_fd_owner reader_owner = {reader_session, reader_ready, reader_dropped};

/* link_start(): called in the loop's thread: registers the reader and runs the link once. */
static PyObject *link_start(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    if (!link->session || link->thread)
        Py_RETURN_NONE; /* detached, or started before */
    core_thread *thread = core_thread_here();
    if (!thread)
        return NULL;
    link->home = core_thread_ref(thread);
    link->next_here = thread->links;
    thread->links = link;
    link->thread = thread->ident;
    Py_INCREF(link);
    PyObject *loop = Py_NewRef(link->loop);
    int r = core_fd_reader_add(core_link_state(link), loop, (PyObject *)link, &reader_owner);
    if (r < 0)
        core_link_closed(link); /* nothing waits on it yet: no code runs that could see the exception */
    if (!link->alive)
        core_fd_reader_remove(core_link_state(link), loop, link->handle);
    core_link_rearm(link);
    Py_DECREF(loop);
    Py_DECREF(link);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* link_stop(): called in the loop's thread. */
static PyObject *link_stop(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link_stop((core_link *)self);
    Py_RETURN_NONE;
}

static core_link *link_new(core_session *s, PyObject *loop) {
    core_async_state *a = s->state->async;
    core_link *link = PyObject_GC_New(core_link, a->link_type);
    if (!link)
        return NULL;
    memset((char *)link + sizeof(PyObject), 0, sizeof *link - sizeof(PyObject));
    link->session = s;
    link->handle = piso_session_ref(s->session);
    link->loop = Py_NewRef(loop);
    link->timer_ns = PISO_NO_DEADLINE;
    core_inbox_init(&link->inbox);
    PyObject_GC_Track(link);
    link->rearm = PyObject_GetAttrString((PyObject *)link, "rearm");
    if (!link->rearm)
        Py_CLEAR(link);
    return link;
}

/* enlist: adds the link to its session's list, after the home. An application's loop replaces the service loop, whose
 * link is returned (borrowed): it closes when nothing waits on it any more. */
static core_link *enlist(core_session *s, core_link *link) {
    core_link *service = s->links && core_link_is_service(s->links) ? s->links : NULL;
    core_link **at = &s->links;
    while (!service && *at)
        at = &(*at)->next;
    link->next = *at;
    *at = link;
    return service;
}

/* start: calls link_start in the loop's thread. Returns 0 or -1. */
static int start(core_session *s, core_link *link) {
    PyObject *running = core_running_loop(s->state), *result = NULL;
    if (running == link->loop) {
        result = link_start((PyObject *)link, NULL);
    } else if (!PyErr_Occurred()) {
        result = PyObject_GetAttrString((PyObject *)link, "start");
        if (result)
            core_link_schedule(link, result, NULL);
    }
    Py_XDECREF(running);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

core_link *core_link_for_loop(core_session *s, PyObject *loop) {
    for (core_link *link = s->links; link; link = link->next)
        if (link->loop == loop) {
            link->held++;
            return (core_link *)Py_NewRef((PyObject *)link);
        }
    core_link *link = link_new(s, loop);
    if (!link)
        return NULL;
    link->held = 1;
    /* listed first: starting it runs Python code, which may request the same link again */
    link->alive = true;
    Py_INCREF(link);
    core_link *service = enlist(s, link);
    if (service)
        core_link_nudge(service);
    if (start(s, link) == 0)
        return link;
    link->alive = false;
    core_link_unlist(link);
    Py_DECREF(link);
    return NULL;
}

void core_link_release(core_link *link) {
    if (link)
        link->held--;
    Py_XDECREF(link);
}

void core_links_ensure_here(core_session *s) {
    unsigned long here = PyThread_get_thread_ident();
    for (core_link *link = s->links; link; link = link->next)
        if (link->thread == here)
            return;
    PyObject *loop = core_running_loop(s->state);
    core_link_release(loop ? core_link_for_loop(s, loop) : NULL);
    Py_XDECREF(loop);
    PyErr_Clear(); /* the session has ended, or out of memory: what waits gets the error */
}

core_link *core_link_here(core_session *s) {
    PyObject *token = core_running_token(s->state);
    for (core_link *link = s->links; token && link; link = link->next)
        if (link->token == token)
            return (core_link *)Py_NewRef((PyObject *)link);
    PyObject *loop = core_running_loop(s->state);
    if (!loop) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_RuntimeError,
                         "awaiting a call of %R needs a running asyncio event loop; "
                         "without one, or under trio, use extension.sync.method(...) "
                         "or extension.control.submit(\"method\", ...)",
                         s->name);
        return NULL;
    }
    core_link *link = core_link_for_loop(s, loop);
    Py_DECREF(loop);
    if (link)
        link->held--;
    if (link && link->alive) {
        Py_XSETREF(link->token, Py_XNewRef(core_running_token(s->state)));
    } else if (link) {
        int state = piso_session_state(s->session);
        Py_CLEAR(link);
        core_session_error(s, state ? state : PISO_ECLOSED, NULL);
    }
    return link;
}

void core_link_poll_requests(core_link *link) {
    link->polls_requests = true;
    core_link_wake(link);
    core_link_rearm(link);
}

/* ---- types ---- */

static int link_traverse(PyObject *self, visitproc visit, void *arg) {
    core_link *link = (core_link *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(link->loop);
    Py_VISIT(link->token);
    Py_VISIT(link->rearm);
    Py_VISIT(link->timer);
    Py_VISIT(link->unscheduled);
    return 0;
}

static int link_clear(PyObject *self) {
    core_link *link = (core_link *)self;
    Py_CLEAR(link->loop);
    Py_CLEAR(link->token);
    Py_CLEAR(link->rearm);
    Py_CLEAR(link->timer);
    Py_CLEAR(link->unscheduled);
    return 0;
}

static void link_dealloc(PyObject *self) {
    core_link *link = (core_link *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_link_wake(link);
    core_link_leave_thread(link);
    link_clear(self);
    piso_session_unref(link->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef link_methods[] = {
    {"rearm", link_rearm, METH_NOARGS, "Run and go to sleep."},
    {"expire", link_expire, METH_NOARGS, "Fail the calls whose deadline has passed."},
    {"trim", link_trim, METH_NOARGS, "Release free shared memory if the session has been idle."},
    {"trim_later", link_trim_later, METH_NOARGS, "Start the timer for trim."},
    {"start", link_start, METH_NOARGS, "Register with the loop."},
    {"stop", link_stop, METH_NOARGS, "Unregister from the loop."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot link_slots[] = {
    {Py_tp_doc, "The connection of a session to an event loop."},
    {Py_tp_methods, link_methods},
    {Py_tp_traverse, link_traverse},
    {Py_tp_clear, link_clear},
    {Py_tp_dealloc, link_dealloc},
    {0, NULL},
};
static PyType_Spec link_spec = {
    .name = "pyisolate._core.Link",
    .basicsize = sizeof(core_link),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = link_slots,
};

int core_link_init(PyObject *module, core_state *state) {
    core_async_state *a = state->async;
    a->link_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &link_spec, NULL);
    core_closing_init(state);
    return a->link_type ? 0 : -1;
}
