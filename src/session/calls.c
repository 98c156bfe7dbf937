/* calls.c - outgoing calls and replies; deadlines; giving up. */
#include <errno.h>
#include <string.h>

#include "session/backlog.h"
#include "session/bodies.h"
#include "session/send.h"

/* ---- calls ---- */

/* note_call: counts a call that was sent or put into the backlog. */
static void note_call(piso_session *s, int64_t deadline_ns) {
    s->stats.calls_sent++;
    if (deadline_ns < s->earliest_deadline)
        s->earliest_deadline = deadline_ns;
}

/* must_wait: whether a call must wait in the backlog. No call overtakes another that waits already. */
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
    int r = piso__session_begin(s, &frame, w);
    if (r < 0)
        return r;
    piso_call *answered = no_reply ? NULL : call;
    r = atomic_load(&s->state); /* another thread may have closed it */
    if (r == 0 && must_wait(s, answered)) {
        r = piso__backlog_add(s, answered, &frame, deadline_ns, w);
        if (r == 0) {
            note_call(s, no_reply ? PISO_NO_DEADLINE : deadline_ns);
            w->nspans = 0; /* the waiting call has them; they are not the peer's yet */
            piso__session_unlock(s);
            return 0;
        }
    } else if (r == 0) {
        r = piso__session_send_call(s, answered, &frame, deadline_ns, w);
        if (r == 0)
            note_call(s, no_reply ? PISO_NO_DEADLINE : deadline_ns);
    }
    return piso__session_end(s, &frame, w, r);
}

int piso_session_reply(piso_session *s, uint64_t request, bool is_error, piso_writer *w) {
    piso__frame frame = {.type = is_error ? PISO__FRAME_ERROR : PISO__FRAME_REPLY, .id = request};
    int r = piso__session_begin(s, &frame, w);
    if (r < 0)
        return r;
    r = atomic_load(&s->state);
    if (r == 0 && !piso__session_is_open(s, request))
        r = -ENOENT;
    if (r == 0)
        r = piso__session_send_body(s, &frame, w);
    if (r == 0) {
        s->open_requests[(uint32_t)request - 1].id = 0;
        s->stats.replies_sent++;
    }
    return piso__session_end(s, &frame, w, r);
}

/* ---- giving up ---- */

static void send_cancel(piso_session *s, uint64_t id) {
    piso__frame frame = {.type = PISO__FRAME_CANCEL, .id = id};
    piso__session_send(s, &frame, NULL, NULL, 0);
}

/* forget_expired: removes a call from the list of expired ones, before it is reported. */
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
    if (call->id == PISO__OVER_ID)
        forget_expired(s, call);
    else if (call->id == PISO__WAITING_ID)
        piso__backlog_forget(s, call, cancel);
    else if (piso__slots_replace(&s->calls, call->id, &piso__abandoned_call) && cancel && atomic_load(&s->state) == 0)
        send_cancel(s, call->id);
    call->id = 0;
    piso__session_unlock(s);
}

/* note_expired: adds a call to the list. There is room in the list for all pending calls. */
static void note_expired(piso_session *s, piso_call *call) {
    call->id = PISO__OVER_ID;
    call->error = -ETIMEDOUT;
    s->expired[s->expired_count++] = call;
}

static void expire_call(piso_session *s, piso_call *call) {
    piso__slots_replace(&s->calls, call->id, &piso__abandoned_call);
    if (atomic_load(&s->state) == 0)
        send_cancel(s, call->id);
    note_expired(s, call);
}

/* scan: moves expired calls to the list and finds the next deadline. */
static void scan(piso_session *s, int64_t now) {
    size_t needed = s->expired_count + s->calls.live + s->backlog_count;
    if (needed > s->expired_capacity) {
        piso_call **expired = reallocarray(s->expired, needed, sizeof *expired);
        if (!expired)
            return; /* the next scan finds them */
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
