/* backlog.c - calls that wait on this side, because the peer already answers as many as it accepts at once.
 *
 * They are sent in the order in which they were made, as replies come in. The peer does not know of them until
 * then, so a call that is given up is never sent. The shared buffers and segments that a call names are kept
 * for it. Segments get their ids when the call is sent, since an id may be retired in the meantime. */
#include <errno.h>
#include <string.h>

#include "session/backlog.h"
#include "session/bodies.h"
#include "session/buffers.h"
#include "session/segments.h"
#include "session/send.h"

struct piso__waiting_call {
    piso__waiting_call *next, **previous_next;
    piso_call *call; /* NULL: no reply is wanted; piso__abandoned_call: nobody waits for it */
    int64_t deadline_ns;
    piso__frame frame;
    /* a view of the memory that follows: body, spans and segments, with a reference to each segment */
    piso_writer content;
    uint8_t body[];
};

static void unlink_call(piso_session *s, piso__waiting_call *w) {
    *w->previous_next = w->next;
    if (w->next)
        w->next->previous_next = w->previous_next;
    else
        s->backlog_tail = w->previous_next;
    s->backlog_count--;
}

static void free_call(piso__waiting_call *w) {
    piso__writer_drop_segments(&w->content);
    free(w->content.spans);
    free(w->content.segments);
    free(w);
}

/* copy_of: returns a copy of `size` bytes; NULL when memory is exhausted, and for size 0. */
static void *copy_of(const void *from, size_t size) {
    void *copy = size ? malloc(size) : NULL;
    if (copy)
        memcpy(copy, from, size);
    return copy;
}

/* keep: moves the writer's contents to a waiting call. The writer keeps its memory. -ENOMEM: nothing was moved. */
static int keep(piso_writer *from, size_t body_size, piso__waiting_call *w) {
    memcpy(w->body, from->data, body_size);
    piso_writer *c = &w->content;
    c->data = w->body;
    c->size = body_size;
    c->spans = copy_of(from->spans, from->nspans * sizeof *from->spans);
    c->segments = copy_of(from->segments, from->nsegments * sizeof(piso_segment *));
    if ((from->nspans && !c->spans) || (from->nsegments && !c->segments)) {
        free(c->spans);
        free(c->segments);
        return -ENOMEM;
    }
    c->nspans = from->nspans;
    c->nsegments = from->nsegments;
    from->nsegments = 0; /* the waiting call has the references now */
    return 0;
}

int piso__backlog_add(piso_session *s, piso_call *call, const piso__frame *frame, int64_t deadline_ns, piso_writer *w) {
    size_t body_size = frame->flags & PISO__FRAME_BODY_SPAN ? 0 : w->size;
    piso__waiting_call *waiting = calloc(1, sizeof *waiting + body_size);
    if (!waiting)
        return -ENOMEM;
    int r = keep(w, body_size, waiting);
    if (r < 0) {
        free(waiting);
        return r;
    }
    waiting->call = call;
    waiting->deadline_ns = deadline_ns;
    waiting->frame = *frame;
    waiting->previous_next = s->backlog_tail;
    *s->backlog_tail = waiting;
    s->backlog_tail = &waiting->next;
    s->backlog_count++;
    if (call) {
        call->id = PISO__WAITING_ID;
        call->waiting = waiting;
        call->deadline_ns = deadline_ns;
    }
    return 0;
}

/* fail_one: ends a call that cannot be sent with `error`. 0 or -ENOMEM. */
static int fail_one(piso_session *s, piso__waiting_call *w, int error) {
    if (s->expired_count == s->expired_capacity) {
        size_t capacity = s->expired_capacity ? 2 * s->expired_capacity : 16;
        piso_call **expired = reallocarray(s->expired, capacity, sizeof *expired);
        if (!expired)
            return -ENOMEM;
        s->expired = expired;
        s->expired_capacity = capacity;
    }
    piso_call *call = w->call;
    unlink_call(s, w);
    piso__session_discard(s, &w->content);
    free_call(w);
    if (!call || call == &piso__abandoned_call)
        return 0;
    call->waiting = NULL;
    call->id = PISO__OVER_ID;
    call->error = error;
    s->expired[s->expired_count++] = call;
    atomic_store_explicit(&s->attention, true, memory_order_release);
    return 0;
}

/* is_its_own: whether an error concerns one call only, and others can still be sent. */
static bool is_its_own(const piso_session *s, int error) {
    if (error == -ENOMEM)
        return s->calls.live == 0; /* otherwise the next reply continues it */
    return error == -EDQUOT || error == -EMFILE || error == -ENOBUFS || error == -EBADF;
}

/* send_one: sends one call. Returns 0, or why it still waits. */
static int send_one(piso_session *s, piso__waiting_call *w) {
    int r = piso__session_send_call(s, w->call, &w->frame, w->deadline_ns, &w->content);
    if (r < 0)
        return r;
    if (w->content.nspans)
        piso__session_lend_spans(s, &w->content);
    piso__session_retire_unused(s, &w->content);
    unlink_call(s, w);
    free_call(w);
    return 0;
}

void piso__backlog_flush(piso_session *s) {
    int r = atomic_load(&s->state);
    while (r == 0 && s->backlog_head && (!s->backlog_head->call || piso__session_may_call(s)))
        if ((r = send_one(s, s->backlog_head)) < 0 && is_its_own(s, r))
            r = fail_one(s, s->backlog_head, r);
    if (r < 0 && r != -ENOMEM) /* when memory lacks, the next reply continues it */
        piso__session_fail(s, r);
}

void piso__backlog_forget(piso_session *s, piso_call *call, bool drop) {
    piso__waiting_call *w = call->waiting;
    call->waiting = NULL;
    if (!drop) {
        w->call = &piso__abandoned_call;
        return;
    }
    unlink_call(s, w);
    piso__session_discard(s, &w->content);
    free_call(w);
}

int64_t piso__backlog_expire(piso_session *s, int64_t now, void (*expire)(piso_session *, piso_call *)) {
    int64_t earliest = PISO_NO_DEADLINE;
    piso__waiting_call *next;
    for (piso__waiting_call *w = s->backlog_head; w; w = next) {
        next = w->next;
        piso_call *call = w->call;
        if (w->deadline_ns > now || !call) {
            earliest = w->deadline_ns < earliest ? w->deadline_ns : earliest;
            continue;
        }
        call->waiting = NULL;
        unlink_call(s, w);
        piso__session_discard(s, &w->content);
        free_call(w);
        if (call != &piso__abandoned_call)
            expire(s, call);
    }
    return earliest;
}

piso_call *piso__backlog_take_any(piso_session *s) {
    while (s->backlog_head) {
        piso__waiting_call *w = s->backlog_head;
        piso_call *call = w->call;
        unlink_call(s, w);
        free_call(w);
        if (call && call != &piso__abandoned_call) {
            call->waiting = NULL;
            return call;
        }
    }
    return NULL;
}
