/* calls.c - calls and replies on their way out; deadlines; giving up. */
#include <errno.h>
#include <string.h>

#include "session/internal.h"

#define EXPIRED_ID UINT64_MAX /* id of a call in the list of expired ones */
#define FEW_SPANS  8

piso_call piso__forgotten = {.deadline_ns = PISO_NO_DEADLINE};

/* ---- bodies ---- */

/* spill_body: moves a large body into the arena, as the writer's last span. The copy is made without the lock. */
static int spill_body(piso_session *s, piso_writer *w) {
    piso_span span;
    void *data;
    int r = piso_session_alloc(s, w->size, &span, &data);
    if (r < 0)
        return r;
    memcpy(data, w->data, w->size);
    r = piso_writer_add_span(w, &span);
    if (r >= 0)
        return 0;
    w->error = 0; /* the writer stays as it was given */
    piso__session_lock(s);
    piso__arena_release(s->channel->arena, span.offset, span.generation);
    piso__session_unlock(s);
    return r;
}

/* begin: what can be done without the lock, then the lock, if it returns 0. `frame` gets what is known of the body. */
static int begin(piso_session *s, piso__frame *frame, piso_writer *w) {
    int r = piso__session_check(s);
    if (r < 0 || w->error)
        return r < 0 ? r : w->error;
    if (w->size > PISO_INLINE_BODY) {
        if ((r = spill_body(s, w)) < 0)
            return r;
        frame->flags |= PISO__FRAME_BODY_SPAN;
    }
    frame->nspans = (uint16_t)w->nspans;
    piso__session_lock(s);
    return 0;
}

/* send_with_segments: some of the writer's spans lie in segments, which have other names on the wire. */
static int send_with_segments(piso_session *s, const piso__frame *frame, const piso_writer *w, size_t size) {
    piso_span few[FEW_SPANS], *spans = w->nspans <= FEW_SPANS ? few : reallocarray(NULL, w->nspans, sizeof *spans);
    int r = spans ? piso__session_name_spans(s, w, spans) : -ENOMEM;
    if (r == 0)
        r = piso__session_send(s, frame, spans, w->data, size);
    if (spans != few)
        free(spans);
    return r;
}

/* send_body: the frame with the writer's body and spans. */
static int send_body(piso_session *s, const piso__frame *frame, const piso_writer *w) {
    if (s->release_count | s->ended_count)
        piso__session_flush_releases(s);
    size_t size = frame->flags & PISO__FRAME_BODY_SPAN ? 0 : w->size;
    return w->nsegments ? send_with_segments(s, frame, w, size) : piso__session_send(s, frame, w->spans, w->data, size);
}

/* end: unlocks what begin locked. When the message has been sent the spans are the peer's; else the writer becomes
 * what it was. */
static int end(piso_session *s, const piso__frame *frame, piso_writer *w, int sent) {
    if (sent == 0) {
        if (w->nspans)
            piso__session_lend_spans(s, w);
        w->nspans = 0;
        piso__writer_drop_segments(w);
    } else if (frame->flags & PISO__FRAME_BODY_SPAN) {
        const piso_span *span = &w->spans[--w->nspans];
        piso__arena_release(s->channel->arena, span->offset, span->generation);
    }
    piso__session_unlock(s);
    return sent;
}

/* ---- calls ---- */

/* milliseconds_left: rounded up, so that the peer does not give up before we do; at least 1. */
static uint32_t milliseconds_left(int64_t deadline_ns) {
    int64_t now = piso_now_coarse_ns(); /* a tick late: the peer's idea of the limit is that much longer */
    int64_t left = deadline_ns > now ? (deadline_ns - now - 1) / 1000000 + 1 : 1;
    return left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

/* note_call: the call has been sent, or waits to be. */
static void note_call(piso_session *s, int64_t deadline_ns) {
    s->stats.calls_sent++;
    if (deadline_ns < s->earliest_deadline)
        s->earliest_deadline = deadline_ns;
}

int piso__session_send_call(piso_session *s, piso_call *call, piso__frame *frame, int64_t deadline_ns,
                            const piso_writer *w) {
    if (deadline_ns != PISO_NO_DEADLINE)
        frame->timeout_ms = milliseconds_left(deadline_ns);
    if (call && !(frame->id = piso__slots_add(&s->calls, call)))
        return -ENOMEM;
    int r = send_body(s, frame, w);
    if (r < 0) {
        piso__slots_remove(&s->calls, frame->id);
    } else if (call && call != &piso__forgotten) {
        call->id = frame->id;
        call->deadline_ns = deadline_ns;
    }
    return r;
}

/* must_wait: nothing overtakes a call that waits already. */
static bool must_wait(const piso_session *s, const piso_call *call) {
    return PISO__UNLIKELY(s->backlog_head != NULL) || (call && PISO__UNLIKELY(!piso__session_may_call(s)));
}

int piso_session_call(piso_session *s, piso_call *call, uint32_t object, uint32_t method, unsigned flags,
                      uint64_t parent, int64_t deadline_ns, piso_writer *w) {
    bool no_reply = (flags & PISO_CALL_NO_REPLY) != 0;
    if (flags & ~(unsigned)(PISO_CALL_KWARGS | PISO_CALL_NO_REPLY) || (!call && !no_reply))
        return -EINVAL;
    piso__frame frame = {
        .type = PISO__FRAME_CALL, .flags = (uint8_t)flags, .object = object, .method = method, .parent = parent};
    int r = begin(s, &frame, w);
    if (r < 0)
        return r;
    piso_call *answered = no_reply ? NULL : call;
    r = atomic_load(&s->state); /* another thread may have closed it */
    if (r == 0 && must_wait(s, answered)) {
        r = piso__backlog_add(s, answered, &frame, deadline_ns, w);
        if (r == 0) {
            note_call(s, no_reply ? PISO_NO_DEADLINE : deadline_ns);
            w->nspans = 0; /* the waiting call's; they are not the peer's yet */
            piso__session_unlock(s);
            return 0;
        }
    } else if (r == 0) {
        r = piso__session_send_call(s, answered, &frame, deadline_ns, w);
        if (r == 0)
            note_call(s, no_reply ? PISO_NO_DEADLINE : deadline_ns);
    }
    return end(s, &frame, w, r);
}

int piso_session_reply(piso_session *s, uint64_t request, bool is_error, piso_writer *w) {
    piso__frame frame = {.type = is_error ? PISO__FRAME_ERROR : PISO__FRAME_REPLY, .id = request};
    int r = begin(s, &frame, w);
    if (r < 0)
        return r;
    r = atomic_load(&s->state);
    if (r == 0 && !piso__session_is_open(s, request))
        r = -ENOENT;
    if (r == 0)
        r = send_body(s, &frame, w);
    if (r == 0) {
        s->open_requests[(uint32_t)request - 1] = 0;
        s->stats.replies_sent++;
    }
    return end(s, &frame, w, r);
}

/* ---- giving up ---- */

static void send_cancel(piso_session *s, uint64_t id) {
    piso__frame frame = {.type = PISO__FRAME_CANCEL, .id = id};
    piso__session_send(s, &frame, NULL, NULL, 0);
}

/* forget_expired: the call is in the list of expired ones, not yet reported. */
static void forget_expired(piso_session *s, const piso_call *call) {
    for (size_t i = 0; i < s->expired_count; i++)
        if (s->expired[i] == call) {
            s->expired[i] = s->expired[--s->expired_count];
            return;
        }
}

void piso_session_forget(piso_session *s, piso_call *call, bool cancel) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    if (call->id == EXPIRED_ID)
        forget_expired(s, call);
    else if (call->id == PISO__WAITING_ID)
        piso__backlog_forget(s, call, cancel);
    else if (piso__slots_replace(&s->calls, call->id, &piso__forgotten) && cancel && atomic_load(&s->state) == 0)
        send_cancel(s, call->id);
    call->id = 0;
    piso__session_unlock(s);
}

/* note_expired: room in the list has been made for all pending calls. */
static void note_expired(piso_session *s, piso_call *call) {
    call->id = EXPIRED_ID;
    s->expired[s->expired_count++] = call;
}

static void expire_call(piso_session *s, piso_call *call) {
    piso__slots_replace(&s->calls, call->id, &piso__forgotten);
    if (atomic_load(&s->state) == 0)
        send_cancel(s, call->id);
    note_expired(s, call);
}

/* scan: moves the calls that are over to the list; finds the next deadline. */
static void scan(piso_session *s, int64_t now) {
    size_t needed = s->expired_count + s->calls.live + s->backlog_count;
    if (needed > s->expired_capacity) {
        piso_call **expired = reallocarray(s->expired, needed, sizeof *expired);
        if (!expired)
            return; /* they expire at the next look */
        s->expired = expired;
        s->expired_capacity = needed;
    }
    int64_t earliest = piso__backlog_expire(s, now, note_expired);
    for (uint32_t i = 0; i < s->calls.size; i++) {
        piso_call *call = s->calls.slots[i].pointer;
        if (!call)
            continue;
        if (call->deadline_ns <= now)
            expire_call(s, call);
        else if (call->deadline_ns < earliest)
            earliest = call->deadline_ns;
    }
    s->earliest_deadline = earliest;
    if (s->expired_count)
        atomic_store_explicit(&s->attention, true, memory_order_release);
}

int64_t piso_session_expire(piso_session *s) {
    if (piso__session_forked(s))
        return PISO_NO_DEADLINE;
    int64_t now = piso_now_ns();
    piso__session_lock(s);
    if (s->earliest_deadline <= now)
        scan(s, now);
    int64_t earliest = s->earliest_deadline;
    piso__session_unlock(s);
    return earliest;
}
