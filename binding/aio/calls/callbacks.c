/* callbacks.c - the callbacks of sessions that this layer fills (core_session_callbacks), and the methods that it adds
 * to Session. */
#include "callbacks.h"
#include "aio/asyncio.h"
#include "aio/loop/closing.h"
#include "aio/loop/handler.h"
#include "aio/loop/link.h"
#include "aio/loop/links.h"
#include "aio/loop/polling.h"
#include "aio/loop/scheduling.h"
#include "aio/loop/timers.h"
#include "call.h"
#include "route.h"
#include "rpc/session_error.h"
#include "rpc/types/session.h"

/* ---- the end ---- */

static void end(core_session *s) {
    core_handlers_cancel(s);
    PyObject *finished = s->finished;
    s->finished = NULL;
    core_link *link = s->links;
    while (link && !link->polls_requests)
        link = link->next;
    if (finished && link)
        core_link_wake_future(link, finished);
    Py_XDECREF(finished);
    core_links_detach(s);
}

static int visit_session(core_session *s, visitproc visit, void *arg) {
    for (core_handler *h = s->handlers; h; h = h->next)
        Py_VISIT(h);
    Py_VISIT(s->finished);
    for (core_link *link = s->links; link; link = link->next)
        Py_VISIT(link);
    return 0;
}

static void clear_session(core_session *s) {
    core_links_detach(s);
    Py_CLEAR(s->finished);
}

static void raise_cancelled(core_state *state) {
    PyErr_SetNone(core_aio_load(state) < 0 ? PyExc_RuntimeError : state->async->cancelled_error);
}

/* ---- threads that wait synchronously ---- */

/* block_links: called when the loops of this thread cannot run. */
static void block_links(core_thread *thread) {
    for (core_link *link = thread->links; link; link = link->next_here)
        link->blocked++;
}

/* next_to_notify: returns a link of the thread that was handed requests meanwhile, and whose loop has not been
 * notified. */
static core_link *next_to_notify(core_thread *thread) {
    core_link *link = thread->links;
    while (link && (link->blocked || !link->inbox.first || link->rearm_scheduled))
        link = link->next_here;
    return link;
}

static void unblock_links(core_thread *thread) {
    for (core_link *link = thread->links; link; link = link->next_here)
        link->blocked -= link->blocked > 0; /* a link created meanwhile was never blocked */
    for (core_link *link; (link = next_to_notify(thread));)
        core_link_nudge(link); /* this may change the list */
}

static void block(core_thread *thread, bool blocked) {
    if (blocked)
        block_links(thread);
    else
        unblock_links(thread);
}

/* wait: without a loop of the application, the service loop handles requests that arrive while nobody waits. */
static int wait(core_session *s) {
    if (s->links)
        return 0;
    PyObject *loop = core_service_loop(s->state);
    core_link *link = loop ? core_link_for_loop(s, loop) : NULL;
    core_link_release(link);
    return link ? 0 : -1;
}

static void sleeps(core_session *s, bool asleep) {
    core_service_watch(s, !asleep);
}

/* ---- serve ---- */

static PyObject *session_serve(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    core_link *link = s->closed ? NULL : core_link_here(s);
    if (!link)
        return PyErr_Occurred() ? NULL : core_session_error(s, piso_session_state(s->session), NULL);
    PyObject *finished =
        s->finished ? Py_NewRef(s->finished) : PyObject_CallMethodNoArgs(link->loop, s->state->async->create_future);
    if (finished && s->closed) { /* while the loop's code ran */
        Py_CLEAR(finished);
        core_session_error(s, piso_session_state(s->session), NULL);
    } else if (finished && !s->finished) {
        s->finished = Py_NewRef(finished);
        core_link_poll_requests(link);
    } else if (finished) {
        Py_SETREF(finished, Py_NewRef(s->finished));
    }
    Py_DECREF((PyObject *)link);
    return finished;
}

static const core_session_callbacks callbacks = {
    .call = core_call_new,
    .request = core_route,
    .cancel = core_handler_cancel,
    .end = end,
    .buffers_sent = core_links_trim_later,
    .awaitable = core_await_result,
    .hide_task = core_task_hide,
    .show_task = core_task_show,
    .raise_cancelled = raise_cancelled,
    .block = block,
    .wait = wait,
    .watch = core_route_watch,
    .sleeps = sleeps,
    .visit = visit_session,
    .clear = clear_session,
};

static PyMethodDef methods[] = {
    {"serve", session_serve, METH_NOARGS, "Handle the peer's calls on the running loop until the session ends."},
    {NULL, NULL, 0, NULL},
};

int core_callbacks_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->callbacks = &callbacks;
    return core_session_add(state, methods, NULL);
}
