/* pump.c - takes events from a session and passes each to its call or request. */
#include <errno.h>
#include <string.h>

#include "codec/buffers/buffers.h"
#include "codec/gpu.h"
#include "dispatch.h"
#include "pump.h"
#include "reply.h"
#include "rpc/hooks.h"
#include "rpc/pending.h"
#include "rpc/request.h"
#include "rpc/session_error.h"

/* notify_thread: wakes the thread whose synchronous call has ended. */
static void notify_thread(core_pending *pending) {
    if (pending->woken || pending->waiter->ident == PyThread_get_thread_ident())
        return;
    pending->woken = true;
    core_thread_wake(pending->waiter);
}

/* has_expired: returns whether an exception of the peer means that the call took too long: the peer has seen that before
 * this side, and ended it (check_cancelled). */
static bool has_expired(const core_pending *pending, PyObject *value) {
    return pending->call.deadline_ns != PISO_NO_DEADLINE && piso_now_ns() >= pending->call.deadline_ns &&
           strcmp(_PyType_Name(Py_TYPE(value)), "CancelledError") == 0;
}

/* complete: sets the call's outcome from the event. The caller's reference to the owner may be the last one and may be
 * dropped as soon as the caller is woken: the owner is not accessed after that. */
static void complete(core_session *s, piso_event *event) {
    core_pending *pending = (core_pending *)event->call; /* its first member */
    PyObject *owner = Py_XNewRef(pending->owner);        /* decoding may run code that drops it, and releases the GIL */
    s->completing++;
    pending->arriving = true;
    core_decode_for_other_thread(pending->thread != PyThread_get_thread_ident());
    PyObject *value = NULL;
    uint8_t outcome = CORE_EXCEPTION;
    if (event->type == PISO_EVENT_REPLY) {
        value = core_decode_value(&s->codec, event);
        outcome = value ? CORE_RESULT : CORE_EXCEPTION;
    } else if (event->type == PISO_EVENT_ERROR) {
        value = core_decode_exception(&s->codec, event);
        if (value)
            core_session_annotate_refused(s, value);
        if (value && has_expired(pending, value)) {
            Py_CLEAR(value);
            core_session_error(s, -ETIMEDOUT, pending);
        }
        if (value && PyErr_GivenExceptionMatches(value, PyExc_MemoryError))
            s->state->peers->make_room(s->state); /* the peer may lack the memory that is idle here */
    } else {
        core_session_error(s, event->error, pending);
    }
    core_decode_for_other_thread(false);
    piso_event_fini(event);
    if (!value)
        value = core_fetch_exception();
    if (owner && (pending->closed || pending->outcome != CORE_PENDING)) { /* given up while it was decoded */
        Py_DECREF(value);
    } else {
        pending->value = value;
        pending->outcome = outcome;
    }
    pending->arriving = false;
    s->completing--;
    if (!owner) {
        notify_thread(pending);
        return;
    }
    pending->ended(pending);
    Py_DECREF(owner);
}

/* ended: called when the session has failed and every pending call has been notified. If another thread is about to
 * notify one, that thread calls this function again: until then the links must stay. */
static void ended(core_session *s) {
    if (s->closed || s->completing)
        return;
    s->closed = true;
    Py_CLEAR(s->codec.segment_cache);
    if (s->state->gpu)
        s->state->gpu->session_ended(&s->codec);
    s->on->end(s);
    for (uint32_t i = 0; i < s->open_capacity; i++)
        if (s->open[i].forward)
            s->state->forwarding->cancel(s->open[i].forward);
    piso_session_disconnect(s->session, 0);
}

/* leave: ends a process forked from an extension that runs the extension's event loop: a handler awaits something
 * there. */
static void leave(core_session *s) {
    PyErr_SetString(s->state->forked_error,
                    "a process that an extension has forked cannot run the extension's event loop: "
                    "do not await in it, and end it with os._exit() or sys.exit()");
    core_exit_forked(s, true);
}

static bool others_sleep(const core_session *s) {
    return s->sync_sleepers || s->loops_asleep;
}

void core_pump_end_poll(core_session *s, core_pump_context *context) {
    if (!context->polls)
        return;
    context->polls = false;
    if (piso_session_poll_end(s->session) > 0 && others_sleep(s))
        piso_session_nudge(s->session);
}

int core_pump(core_session *s, core_pump_context *context, int limit) {
    int handled = 0;
    piso_event event;
    piso_event_init(&event);
    /* a failed session has a limited number of events left, which must all be handled */
    while (handled < limit || piso_session_state(s->session) != 0) {
        int r = piso_session_next(s->session, &event);
        core_pump_end_poll(s, context);
        if (r == PISO_EFORKED && s->fork_hook)
            leave(s);
        if (r < 0)
            ended(s);
        if (r <= 0)
            break;
        handled++;
        switch (event.type) {
        case PISO_EVENT_REQUEST:
            s->on->request(s, &event, event.parent ? ((core_pending *)event.parent)->origin : NULL, context);
            piso_event_fini(&event); /* empty if it has been taken */
            break;
        case PISO_EVENT_CANCEL:
            core_request_cancel(s, event.id);
            piso_event_fini(&event);
            break;
        case PISO_EVENT_RETIRED:
            core_segment_cache_drop(&s->codec, event.segment);
            piso_event_fini(&event);
            break;
        case PISO_EVENT_RELEASED:
            ((core_leased *)event.cookie)->ended(event.cookie);
            piso_event_fini(&event);
            break;
        case PISO_EVENT_REPLY:
        case PISO_EVENT_ERROR:
        case PISO_EVENT_FAILED:
            complete(s, &event);
            break;
        }
    }
    return handled;
}

int core_run_inbox(core_inbox *inbox, core_pump_context *context, int limit) {
    int handled = 0;
    core_item *item;
    for (; handled < limit && (item = core_inbox_take(inbox)); handled++) {
        if (!item->session->closed)
            core_dispatch(item->session, &item->event, item->origin, context);
        core_item_free(item);
    }
    return handled;
}

void core_reroute(core_inbox *inbox) {
    core_pump_context nowhere = {0}; /* any code may be running: nothing is run here */
    core_inbox items = *inbox;
    core_item *item;
    if (items.end == &inbox->first)
        items.end = &items.first;
    core_inbox_init(inbox);
    while ((item = core_inbox_take(&items))) {
        if (!item->session->closed)
            item->session->on->request(item->session, &item->event, item->origin, &nowhere);
        core_item_free(item);
    }
}

void core_pump_leftovers(core_session *s, core_pump_context *context) {
    /* messages published from now on ring the doorbell; older ones still fit the ring */
    for (int i = 0; i < 16 && piso_session_ready(s->session) && others_sleep(s); i++)
        if (core_pump(s, context, 64) == 0)
            return;
}
