/* bodies.c - outgoing messages with bodies: from the contents of a writer into the ring. */
#include <errno.h>
#include <string.h>

#include "session/bodies.h"
#include "session/buffers.h"
#include "session/leases.h"
#include "session/segments.h"
#include "session/send.h"

#define FEW_SPANS 8

piso_call piso__abandoned_call = {.deadline_ns = PISO_NO_DEADLINE};

/* spill_body: moves a large body into the arena, as the writer's last span. Copies without the lock. */
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
    w->error = 0; /* the writer is restored */
    piso__session_lock(s);
    piso__arena_release(s->channel->arena, span.offset, span.generation);
    piso__session_unlock(s);
    return r;
}

int piso__session_begin(piso_session *s, piso__frame *frame, piso_writer *w) {
    int r = piso__session_check(s);
    if (r < 0 || w->error)
        return r < 0 ? r : w->error;
    if (w->size > PISO_INLINE_BODY) {
        if ((r = spill_body(s, w)) < 0)
            return r;
        frame->flags |= PISO__FRAME_BODY_SPAN;
    }
    if (w->nspans > PISO__HEADER_SPANS)
        frame->flags |= PISO__FRAME_SPAN_TABLE;
    bool spilled = frame->flags & PISO__FRAME_BODY_SPAN;
    frame->nspans = (uint16_t)(w->nspans > PISO__HEADER_SPANS ? 1u + spilled : w->nspans);
    piso__session_lock(s);
    return 0;
}

/* send_with_segments: sends spans of which some are in segments, which have ids on the wire. */
static int send_with_segments(piso_session *s, const piso__frame *frame, const piso_writer *w, size_t size) {
    piso_span few[FEW_SPANS], *spans = w->nspans <= FEW_SPANS ? few : reallocarray(NULL, w->nspans, sizeof *spans);
    int r = spans ? piso__session_name_spans(s, w, spans) : -ENOMEM;
    if (r == 0)
        r = piso__session_send(s, frame, spans, w->data, size);
    if (spans != few)
        free(spans);
    return r;
}

/* send_with_table: puts the spans into a buffer, because more than fit behind a header are used. */
static int send_with_table(piso_session *s, const piso__frame *frame, const piso_writer *w, size_t size) {
    piso_span outer[2];
    void *table;
    int r = piso__session_alloc(s, w->nspans * sizeof(piso_span), &outer[0], &table);
    if (r < 0)
        return r;
    uint32_t count = w->nspans;
    if (frame->flags & PISO__FRAME_BODY_SPAN)
        outer[1] = w->spans[--count];
    outer[0].length = count * sizeof(piso_span);
    r = piso__session_name_spans(s, w, table);
    if (r == 0)
        r = piso__session_send(s, frame, outer, w->data, size);
    if (r == 0)
        piso__arena_lend(s->channel->arena, outer[0].offset, outer[0].generation);
    else
        piso__arena_release(s->channel->arena, outer[0].offset, outer[0].generation);
    return r;
}

int piso__session_send_body(piso_session *s, const piso__frame *frame, const piso_writer *w) {
    if (s->release_count | s->ended_count)
        piso__session_flush_releases(s);
    size_t size = frame->flags & PISO__FRAME_BODY_SPAN ? 0 : w->size;
    if (PISO__UNLIKELY(frame->flags & PISO__FRAME_SPAN_TABLE))
        return send_with_table(s, frame, w, size);
    return w->nsegments ? send_with_segments(s, frame, w, size) : piso__session_send(s, frame, w->spans, w->data, size);
}

int piso__session_end(piso_session *s, const piso__frame *frame, piso_writer *w, int sent) {
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

/* milliseconds_left: the remaining time, at least 1, rounded up so that the peer does not give up before we do. */
static uint32_t milliseconds_left(int64_t deadline_ns) {
    int64_t now = piso_now_coarse_ns(); /* up to a tick late: the peer's limit is that much longer */
    int64_t left = deadline_ns > now ? (deadline_ns - now - 1) / 1000000 + 1 : 1;
    return left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

int piso__session_send_call(piso_session *s, piso_call *call, piso__frame *frame, int64_t deadline_ns,
                            const piso_writer *w) {
    if (deadline_ns != PISO_NO_DEADLINE)
        frame->timeout_ms = milliseconds_left(deadline_ns);
    if (call && !(frame->id = piso__slots_add(&s->calls, call)))
        return -ENOMEM;
    int r = piso__session_send_body(s, frame, w);
    if (r < 0) {
        piso__slots_remove(&s->calls, frame->id);
    } else if (call && call != &piso__abandoned_call) {
        call->id = frame->id;
        call->deadline_ns = deadline_ns;
    }
    return r;
}
