/* route.c - selects what runs a request: the thread that waits synchronously for the call in whose handler the request
 * was made; else the loop that awaits the call; else the session's first loop, its home. If the home's thread is
 * blocked in a synchronous wait, a host uses the service loop; in an extension the request waits until the thread is
 * free again. */
#include "route.h"
#include "aio/asyncio.h"
#include "aio/loop/handler.h"
#include "aio/loop/link.h"
#include "aio/loop/links.h"
#include "aio/loop/scheduling.h"
#include "rpc/pending.h"
#include "rpc/pump/dispatch.h"
#include "rpc/pump/reply.h"

#define MAX_UNANSWERED 4096 /* requests of a session that expect no reply and have not ended */

/* is_free: returns whether the link's loop can run something, now or soon. */
static bool is_free(const core_link *link) {
    return link && link->alive && !link->blocked;
}

/* link_of: returns the link of a loop in this thread; borrowed or NULL. */
static core_link *link_of(core_session *s, unsigned long thread) {
    core_link *link = s->links;
    while (link && link->thread != thread)
        link = link->next;
    return link;
}

/* is_extension: returns whether this process only serves this session. */
static bool is_extension(const core_session *s) {
    return s->links && s->links->polls_requests && !piso_session_process(s->session);
}

/* link_to_use: returns the link of the loop for a request that no synchronous wait runs; the caller must release it.
 * NULL with an exception. `parent`: the call in whose handler the request was made, or NULL. */
static core_link *link_to_use(core_session *s, const core_pending *parent) {
    core_link *link = parent ? link_of(s, parent->thread) : NULL;
    if (!is_free(link))
        link = s->links; /* the home */
    if (is_free(link) || is_extension(s)) {
        link->held++;
        return (core_link *)Py_NewRef((PyObject *)link);
    }
    PyObject *loop = core_service_loop(s->state);
    return loop ? core_link_for_loop(s, loop) : NULL;
}

/* hand_over: puts the request into an inbox. Returns false when out of memory, and then the request has been
 * refused. */
static bool hand_over(core_inbox *inbox, core_session *s, piso_event *event, PyObject *origin) {
    if (core_inbox_put(inbox, s, event, origin) == 0)
        return true;
    PyErr_NoMemory();
    core_refuse(s, event);
    return false;
}

/* hand_to_link: the request runs in the loop's next iteration; if the loop's thread is blocked, when it is free
 * again. */
static void hand_to_link(core_link *link, core_session *s, piso_event *event, PyObject *origin) {
    bool first = !link->inbox.first;
    if (hand_over(&link->inbox, s, event, origin) && first && !link->blocked)
        core_link_nudge(link);
}

static void hand_to_thread(core_thread *thread, core_session *s, piso_event *event, PyObject *origin) {
    if (hand_over(&thread->inbox, s, event, origin))
        core_thread_wake(thread);
}

/* drop: returns whether a request that expects no reply is one too many: then it is ended, and one warning is
 * issued. */
static bool drop(core_session *s, piso_event *event) {
    if (!(event->flags & PISO_CALL_NO_REPLY) || s->unanswered + (s->links ? s->links->inbox.count : 0) < MAX_UNANSWERED)
        return false;
    piso_event_fini(event);
    if (!s->dropped &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "%R makes calls without waiting for them faster than they are answered; more than "
                         "%d at once are dropped",
                         s->name, MAX_UNANSWERED) < 0)
        PyErr_WriteUnraisable(s->name);
    s->dropped = true;
    return true;
}

/* runs_here: returns whether the request can run now, in this run of the link's loop, or in a task of it that awaits;
 * not before earlier requests. */
static bool runs_here(const core_link *link, const core_pump_context *context) {
    bool is_own = link == context->link || (context->in_task && link->home == context->thread);
    return is_own && is_free(link) && !link->inbox.first;
}

void core_route(core_session *s, piso_event *event, PyObject *origin, core_pump_context *context) {
    core_pending *parent = (core_pending *)event->parent; /* its first member */
    bool at_once = event->flags & PISO_CALL_NO_REPLY &&
                   (event->object == PISO_OBJECT_CONTROL || event->object == PISO_OBJECT_PREFETCH);
    if (at_once) {
        core_dispatch(s, event, origin, context);
    } else if (drop(s, event)) {
        return;
    } else if (parent && parent->waiter) {
        core_thread *thread = parent->waiter;
        if (thread == context->thread && context->waits && !thread->inbox.first && thread->nested < CORE_MAX_NESTING)
            core_dispatch(s, event, origin, context);
        else
            hand_to_thread(thread, s, event, origin);
    } else {
        core_link *link = link_to_use(s, parent);
        if (!link)
            core_refuse(s, event);
        else if (runs_here(link, context))
            core_dispatch(s, event, origin, context);
        else
            hand_to_link(link, s, event, origin);
        core_link_release(link);
    }
}

int core_route_watch(core_session *s) {
    core_link *link = link_to_use(s, NULL);
    core_link_release(link);
    return link ? 0 : -1;
}

/* core_await_result: a thread that waits synchronously cannot run the awaitable itself. */
void core_await_result(core_session *s, uint64_t request, PyObject *awaitable, PyObject *request_context,
                       bool has_buffers, core_pump_context *context) {
    core_link *other = context->waits ? link_to_use(s, NULL) : NULL, *own = NULL;
    if (!context->waits)
        own = context->link && context->link->alive ? (core_link *)Py_NewRef((PyObject *)context->link)
                                                    : core_link_here(s);
    if (own || other) {
        core_handler_run(s, own ? own : other, request, awaitable, request_context, has_buffers, context);
        Py_XDECREF((PyObject *)own);
        core_link_release(other);
        return;
    }
    core_reply(s, request, NULL);
    Py_DECREF(awaitable);
}
