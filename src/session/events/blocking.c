/* blocking.c - threads that wait for replies on one session (piso/blocking.h).
 *
 * All waiting threads are in a list. One of them, the reader, takes the events. It passes a reply to the thread
 * that made the call, and continues until it has its own reply. Before it returns or runs the handler, it
 * passes the role to a sleeping thread. So there is a reader whenever a thread sleeps, and a handler may wait
 * for other calls.
 *
 * The session's lock guards the list and the states in it. A thread's entry is on its stack, and is removed
 * before the thread returns. Only the reader checks deadlines: a timeout is an event like others. */
#include <string.h>

#include "base/structs.h"
#include "session/object.h"

enum { AWAKE, ASLEEP, DONE };

struct piso__blocked {
    piso_call call; /* not sent by piso_session_serve */
    piso__blocked *next;
    piso_event *answer;
    int result;
    _Atomic uint32_t state;
};

/* ---- the list; all of this needs the lock ---- */

static void enter(piso_session *s, piso__blocked *me) {
    me->next = s->blocked;
    s->blocked = me;
}

static void leave(piso_session *s, const piso__blocked *me) {
    piso__blocked **at = &s->blocked;
    while (*at != me)
        at = &(*at)->next;
    *at = me->next;
}

static piso__blocked *find(const piso_session *s, const piso_call *call) {
    piso__blocked *b = s->blocked;
    while (b && &b->call != call)
        b = b->next;
    return b;
}

/* set_state: changes the state of a thread and wakes it if it sleeps. */
static void set_state(piso__blocked *b, uint32_t state) {
    bool sleeps = atomic_load_explicit(&b->state, memory_order_relaxed) == ASLEEP;
    atomic_store_explicit(&b->state, state, memory_order_release);
    if (sleeps)
        piso__word_wake(&b->state);
}

static bool is_done(const piso__blocked *b) {
    return atomic_load_explicit(&b->state, memory_order_acquire) == DONE;
}

/* stop_reading: passes the role of the reader to a waiting thread, if there is one. */
static void stop_reading(piso_session *s) {
    s->reader = NULL;
    s->reader_until_ns = INT64_MIN;
    for (piso__blocked *b = s->blocked; b; b = b->next)
        if (atomic_load_explicit(&b->state, memory_order_relaxed) == ASLEEP) {
            set_state(b, AWAKE);
            return;
        }
}

/* ---- replies ---- */

/* move_answer: moves a reply to the caller's event, which may have less room for a body. 0, or -ENOMEM after
 * ending the reply. */
static int move_answer(piso_event *to, piso_event *from) {
    size_t room = to->size - offsetof(piso_event, inline_body), size = to->size;
    bool is_inline = from->body == from->inline_body;
    if (is_inline && from->body_size > room) {
        void *heap = malloc(from->body_size);
        if (!heap)
            return -ENOMEM;
        from->body = from->heap = memcpy(heap, from->inline_body, from->body_size);
        atomic_fetch_add(&from->session->event_bytes, from->body_size); /* piso_event_fini subtracts it again */
        is_inline = false;
    }
    memcpy(to, from, offsetof(piso_event, inline_body));
    to->size = size;
    to->call = NULL; /* the call is on a stack */
    if (is_inline)
        to->body = memcpy(to->inline_body, from->inline_body, from->body_size);
    return 0;
}

/* hand_over: whether the event is the reply to a thread's call. If so, the thread has it now. */
static bool hand_over(piso_session *s, piso_event *event) {
    if (event->type != PISO_EVENT_REPLY && event->type != PISO_EVENT_ERROR && event->type != PISO_EVENT_FAILED)
        return false;
    piso__session_lock(s);
    piso__blocked *b = find(s, event->call);
    int r = !b ? 0 : event->type == PISO_EVENT_FAILED ? event->error : move_answer(b->answer, event);
    if (b) {
        b->result = r;
        set_state(b, DONE);
    }
    piso__session_unlock(s);
    if (r < 0)
        piso_event_fini(event);
    return b != NULL;
}

/* end_all: ends all waits; the session has reported everything. */
static void end_all(piso_session *s, int error) {
    piso__session_lock(s);
    for (piso__blocked *b = s->blocked; b; b = b->next)
        if (!is_done(b)) {
            b->result = error;
            set_state(b, DONE);
        }
    piso__session_unlock(s);
}

/* ---- other events ---- */

static void write_text(piso_writer *w, const char *text) {
    piso_write_str(w, text, strlen(text));
}

static void refuse(piso_session *s, uint64_t request) {
    piso_writer w;
    piso_writer_init(&w);
    size_t mark = piso_write_ext_begin(&w, PISO_EXT_EXCEPTION);
    piso_write_map(&w, 2);
    write_text(&w, PISO_EXCEPTION_TYPE);
    write_text(&w, "builtins:NotImplementedError");
    write_text(&w, PISO_EXCEPTION_ARGS);
    piso_write_array(&w, 1);
    write_text(&w, "this side handles no calls");
    piso_write_ext_end(&w, mark);
    piso_session_reply(s, request, true, &w);
    piso_writer_fini(&w);
}

static void handle(piso_session *s, piso_event *event) {
    event->parent = NULL; /* on the stack of a thread, which may have returned */
    if (s->handler)
        s->handler(s->handler_context, event);
    else if (event->type == PISO_EVENT_REQUEST && !(event->flags & PISO_CALL_NO_REPLY))
        refuse(s, event->id);
    piso_event_fini(event);
}

/* ---- reading ---- */

/* next_deadline: returns the earliest deadline of our calls and of the reader itself. Other threads compare it
 * before they sleep: see announce. */
static int64_t next_deadline(piso_session *s, int64_t until_ns) {
    piso_session_expire(s);
    piso__session_lock(s);
    if (s->earliest_deadline < until_ns)
        until_ns = s->earliest_deadline;
    s->reader_until_ns = until_ns;
    piso__session_unlock(s);
    return until_ns;
}

/* announce: wakes the reader if it may sleep beyond the deadline of a call that was just sent. */
static void announce(piso_session *s, int64_t deadline_ns) {
    piso__session_lock(s);
    bool sleeps_longer = s->reader && deadline_ns < s->reader_until_ns;
    piso__session_unlock(s);
    if (sleeps_longer)
        piso_session_nudge(s);
}

/* next_event: takes one event; polls and sleeps if there is none. 1; 0 when `me` is done or until_ns has
 * passed; a negative code. */
static int next_event(piso_session *s, const piso__blocked *me, int64_t until_ns, piso_event *event) {
    while (!is_done(me)) {
        int r = piso_session_next(s, event);
        if (r != 0)
            return r;
        int64_t deadline_ns = next_deadline(s, until_ns), now_ns = piso_now_ns();
        if (piso_session_ready(s))
            continue;
        if (now_ns >= until_ns)
            return 0;
        piso_session_poll_begin(s);
        int ready = piso_session_spin(s);
        ready |= piso_session_poll_end(s);
        if (ready)
            continue;
        r = piso_session_wait(s, -1,
                              deadline_ns == PISO_NO_DEADLINE ? -1
                              : deadline_ns > now_ns          ? deadline_ns - now_ns
                                                              : 0);
        if (r < 0 && r != -EINTR)
            return r;
    }
    return 0;
}

/* read_events: takes events for all threads, as the reader, until `me` is done, until_ns has passed, or an
 * event was handled. Returns true in the last case. */
static bool read_events(piso_session *s, piso__blocked *me, int64_t until_ns) {
    piso_event event;
    piso_event_init(&event);
    int r;
    while ((r = next_event(s, me, until_ns, &event)) > 0 && hand_over(s, &event))
        ;
    if (piso__session_forked(s))
        return false;
    if (r < 0)
        end_all(s, r);
    piso__session_lock(s);
    stop_reading(s);
    piso__session_unlock(s);
    if (r > 0)
        handle(s, &event);
    return r > 0;
}

/* sleep_until: sleeps while another thread reads. Needs the lock, releases it while asleep. */
static void sleep_until(piso_session *s, piso__blocked *me, int64_t until_ns) {
    atomic_store_explicit(&me->state, ASLEEP, memory_order_relaxed);
    piso__session_unlock(s);
    int64_t left_ns = until_ns - piso_now_ns();
    piso__word_wait(&me->state, ASLEEP, until_ns == PISO_NO_DEADLINE ? -1 : left_ns > 0 ? left_ns : 0);
    piso__session_lock(s);
    if (!is_done(me))
        atomic_store_explicit(&me->state, AWAKE, memory_order_relaxed);
}

/* wait_done: waits until `me` is done or until_ns has passed, and removes it from the list. Returns its result,
 * 0 when it is not done. */
static int wait_done(piso_session *s, piso__blocked *me, int64_t until_ns) {
    bool goes_on = true;
    piso__session_lock(s);
    while (goes_on && !is_done(me)) {
        bool handled = false;
        if (s->reader) {
            sleep_until(s, me, until_ns);
        } else {
            s->reader = me;
            piso__session_unlock(s);
            handled = read_events(s, me, until_ns);
            if (piso__session_forked(s))
                return PISO_EFORKED; /* a handler has forked: the lock may stay locked */
            piso__session_lock(s);
        }
        goes_on = handled || until_ns == PISO_NO_DEADLINE || piso_now_ns() < until_ns;
    }
    leave(s, me);
    if (!s->reader)
        stop_reading(s); /* this thread may be the one that was woken to read */
    piso__session_unlock(s);
    return is_done(me) ? me->result : 0;
}

static int64_t deadline_of(int64_t timeout_ns) {
    int64_t now_ns = piso_now_ns();
    return timeout_ns < 0 || timeout_ns >= INT64_MAX - now_ns ? PISO_NO_DEADLINE : now_ns + timeout_ns;
}

void piso_session_on_event(piso_session *s, piso_event_handler handler, void *context) {
    s->handler = handler;
    s->handler_context = context;
}

int piso_session_call_wait(piso_session *s, uint32_t object, uint32_t method, unsigned flags, uint64_t parent,
                           int64_t timeout_ns, piso_writer *w, piso_event *ret_event) {
    if (flags & PISO_CALL_NO_REPLY || !piso__struct_is_sized(ret_event, offsetof(piso_event, inline_body)))
        return -EINVAL;
    int r = piso__session_check(s);
    if (r < 0)
        return r;
    int64_t deadline_ns = deadline_of(timeout_ns);
    piso__blocked me = {.answer = ret_event};
    piso__session_lock(s);
    enter(s, &me);
    piso__session_unlock(s);
    r = piso_session_call(s, &me.call, object, method, flags, parent, deadline_ns, w);
    if (r < 0) {
        piso__session_lock(s);
        leave(s, &me);
        piso__session_unlock(s);
        return r;
    }
    announce(s, deadline_ns);
    r = wait_done(s, &me, PISO_NO_DEADLINE);
    if (me.call.id)
        piso_session_forget(s, &me.call, true); /* waiting has failed */
    return r;
}

int piso_session_serve(piso_session *s, int64_t timeout_ns) {
    int r = piso__session_check(s);
    if (r == PISO_EFORKED)
        return r;
    piso__blocked me = {.answer = NULL};
    piso__session_lock(s);
    enter(s, &me);
    piso__session_unlock(s);
    return wait_done(s, &me, deadline_of(timeout_ns));
}
