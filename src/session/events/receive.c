/* receive.c - turns messages into events. Everything in a message comes from the peer: it is copied out of
 * shared memory first, then checked, then used. A violation ends the session with PISO_EPROTO. */
#include <errno.h>
#include <string.h>

#include "session/backlog.h"
#include "session/bodies.h"
#include "session/buffers.h"
#include "session/descriptors.h"
#include "session/events/intake.h"
#include "session/leases.h"
#include "session/segments.h"
#include "session/send.h"

#define TAKEN      UINT32_MAX /* segment of a span that the caller has taken */
#define LARGE_SPAN (1u << 20)
#define MAX_SILENT 1024 /* messages without an event that are read before the caller can check its clock */

/* ---- spans and bodies ---- */

/* A message in the scratch buffer, split. A body in shared memory is copied without the lock, when the scratch
 * buffer may already hold the next message; shared_body is all that the copy needs. */
typedef struct message {
    piso__frame frame;
    const uint8_t *spans, *body;
    uint32_t nspans; /* without those of the body and the table */
    uint8_t *table;  /* a copy of the spans, if they came in a buffer; freed after use */
    size_t body_size;
    piso_span shared_body; /* length 0: none */
    uint64_t lengths;      /* sum of all its buffers in the peer's arena so far */
    uint64_t backed;       /* how much memory that arena has; 0: not determined yet */
} message;

/* check_span: checks that a span from the peer is in an arena and, if the message's buffers are large together,
 * that the arena has that much memory at all. Reading memory that was never written allocates pages, and
 * copying it takes room. Overlapping buffers could otherwise be copied more often than they exist. */
static int check_span(piso_session *s, message *m, const piso_span *span) {
    if (piso__session_check_span(s, span) < 0)
        return piso__session_protocol_error(s, "a buffer is outside the shared memory");
    if (span->segment == 0)
        m->lengths += span->length; /* no overflow: at most PISO_MAX_SPANS spans, each at most as long as the arena */
    if (m->lengths > LARGE_SPAN && !m->backed)
        m->backed = piso__channel_backed(s->channel);
    if (m->lengths > LARGE_SPAN && m->lengths > m->backed)
        return piso__session_protocol_error(s, "its buffers are larger than all the memory behind them");
    if (PISO__UNLIKELY(s->strict) && span->segment == 0 &&
        piso__channel_has_hole(s->channel, span->offset, span->length))
        return piso__session_protocol_error(s, "a buffer has missing pages");
    return 0;
}

/* split_spans: separates the body's span, and replaces the table's span by the table's contents. */
static int split_spans(piso_session *s, message *m) {
    m->nspans = m->frame.nspans;
    if (m->frame.flags & PISO__FRAME_BODY_SPAN) {
        piso__span_decode(m->spans + --m->nspans * PISO__SPAN_SIZE, &m->shared_body);
        if (m->shared_body.segment)
            return piso__session_protocol_error(s, "a body is outside its arena");
        int r = check_span(s, m, &m->shared_body);
        if (r < 0)
            return r;
    }
    if (!(m->frame.flags & PISO__FRAME_SPAN_TABLE))
        return 0;
    piso_span table;
    piso__span_decode(m->spans, &table);
    if (table.segment || table.length % PISO__SPAN_SIZE || table.length > PISO_MAX_SPANS * PISO__SPAN_SIZE)
        return piso__session_protocol_error(s, "a table of buffers is malformed");
    int r = check_span(s, m, &table);
    if (r < 0)
        return r;
    if (!(m->table = malloc(table.length)))
        return -ENOMEM;
    memcpy(m->table, s->channel->peer.base + table.offset, table.length);
    piso__session_give_back(s, &table);
    m->spans = m->table;
    m->nspans = (uint32_t)(table.length / PISO__SPAN_SIZE);
    return 0;
}

/* load_span: copies a span and checks it. */
static int load_span(piso_session *s, message *m, uint32_t index, piso_span *ret_span, piso_segment **ret_segment) {
    piso_span span;
    piso_segment *segment = NULL;
    piso__span_decode(m->spans + index * PISO__SPAN_SIZE, &span);
    if (span.segment == PISO__SEGMENT_LEASE) {
        if (span.offset == 0 || span.length || span.generation)
            return piso__session_protocol_error(s, "a lease is malformed");
        s->stats.leases_held++;
    } else if (piso__span_in_segment(&span)) {
        bool ours = false;
        int r = piso__session_find_segment(s, &span, &segment, &ours);
        if (r == PISO_EPROTO)
            return piso__session_protocol_error(s, "a buffer is outside the shared memory");
        span.generation = ours;
        if (r < 0) /* this message cannot be accepted here, but others can */
            span = (piso_span){.segment = PISO__SEGMENT_REFUSED, .offset = (uint64_t)(int64_t)r};
    } else {
        int r = check_span(s, m, &span);
        if (r < 0)
            return r;
        s->stats.spans_held++;
    }
    *ret_span = span;
    *ret_segment = segment;
    return 0;
}

static int load_spans(piso_session *s, message *m, piso_event *event) {
    for (uint32_t i = 0; i < m->nspans; i++) {
        int r = load_span(s, m, i, &event->spans[i], &event->segments[i]);
        if (r < 0) {
            while (i > 0)
                piso_segment_unref(event->segments[--i]);
            return r;
        }
    }
    return 0;
}

/* heap_size: returns how much memory an event needs besides itself, if any. */
static size_t heap_size(uint32_t nspans, size_t body_size) {
    return nspans * (sizeof(piso_span) + sizeof(piso_segment *)) + body_size;
}

/* place: makes room for spans and body: in the event if the body is small, else in one heap block. */
static int place(piso_session *s, const message *m, piso_event *event, uint8_t **ret_body) {
    event->heap = NULL;
    event->spans = NULL;
    event->segments = NULL;
    *ret_body = event->inline_body;
    if (m->nspans == 0 && m->body_size <= event->size - offsetof(piso_event, inline_body))
        return 0;
    size_t size = heap_size(m->nspans, m->body_size), waiting = atomic_load(&s->event_bytes);
    if (s->event_limit && waiting > s->event_limit)
        return piso__session_protocol_error(s, "more than 1 GiB of its messages wait to be answered");
    uint8_t *heap = malloc(size);
    if (!heap)
        return -ENOMEM;
    atomic_fetch_add(&s->event_bytes, size);
    event->heap = heap;
    event->spans = (piso_span *)(void *)heap;
    event->segments = (piso_segment **)(void *)(heap + m->nspans * sizeof(piso_span));
    *ret_body = heap + size - m->body_size;
    return 0;
}

/* load: fills body and spans of an event from a message. */
static int load(piso_session *s, message *m, piso_event *event) {
    if (m->shared_body.length)
        m->body_size = m->shared_body.length;
    uint8_t *body;
    int r = place(s, m, event, &body);
    if (r == 0 && m->nspans)
        r = load_spans(s, m, event);
    if (r < 0) {
        free(event->heap);
        return r;
    }
    if (!m->shared_body.length)
        memcpy(body, m->body, m->body_size);
    event->nspans = m->nspans;
    event->body = body;
    event->body_size = m->body_size;
    event->session = s;
    return 0;
}

/* copy_shared_body: the part of load that runs without the lock. */
static void copy_shared_body(piso_session *s, const message *m, piso_event *event) {
    memcpy((uint8_t *)event->body, s->channel->peer.base + m->shared_body.offset, event->body_size);
    piso__session_lock(s);
    piso__session_give_back(s, &m->shared_body);
    piso__session_unlock(s);
}

/* drop: releases the spans of a message that nobody waits for. */
static int drop(piso_session *s, message *m) {
    if (m->shared_body.length)
        piso__session_give_back(s, &m->shared_body);
    m->shared_body.length = 0;
    for (uint32_t i = 0; i < m->nspans; i++) {
        piso_span span;
        piso__span_decode(m->spans + i * PISO__SPAN_SIZE, &span);
        if (span.segment == PISO__SEGMENT_LEASE) {
            s->stats.leases_held++;
            piso__session_queue_lease(s, span.offset);
        }
        if (piso__span_in_segment(&span))
            continue;
        int r = check_span(s, m, &span);
        if (r < 0)
            return r;
        piso__session_give_back(s, &span);
    }
    return 0;
}

/* ---- frames ---- */

/* Handlers return 1 when they have filled the event, 0 when there is nothing to report, or an error. */

/* open_request: records that the peer waits for a reply. */
static int open_request(piso_session *s, uint64_t id, int64_t deadline_ns) {
    uint32_t index = (uint32_t)id - 1;
    if (index >= s->accepts)
        return piso__session_protocol_error(s, "it has more calls open at once than it may have");
    if (index >= s->open_capacity) {
        uint32_t capacity = s->open_capacity ? s->open_capacity : 64;
        while (capacity <= index)
            capacity *= 2;
        piso__open_request *open = reallocarray(s->open_requests, capacity, sizeof *open);
        if (!open)
            return -ENOMEM;
        memset(open + s->open_capacity, 0, (capacity - s->open_capacity) * sizeof *open);
        s->open_requests = open;
        s->open_capacity = capacity;
    }
    if (s->open_requests[index].id)
        return piso__session_protocol_error(s, "two open calls have the same id");
    s->open_requests[index] = (piso__open_request){.id = id, .deadline_ns = deadline_ns};
    return 0;
}

/* find_parent: returns our call in whose handler the peer made a request. NULL if nobody here waits for that
 * call any more. */
static piso_call *find_parent(const piso_session *s, uint64_t id) {
    piso_call *call = piso__slots_get(&s->calls, id);
    return call == &piso__abandoned_call ? NULL : call;
}

static int receive_call(piso_session *s, message *m, piso_event *event) {
    bool no_reply = (m->frame.flags & PISO_CALL_NO_REPLY) != 0;
    int64_t deadline_ns = PISO_NO_DEADLINE;
    if (m->frame.timeout_ms)
        deadline_ns = piso_now_coarse_ns() + (int64_t)m->frame.timeout_ms * 1000000;
    int r = no_reply ? 0 : open_request(s, m->frame.id, deadline_ns);
    if (r == 0)
        r = load(s, m, event);
    if (r < 0)
        return r;
    event->type = PISO_EVENT_REQUEST;
    event->id = m->frame.id;
    event->object = m->frame.object;
    event->method = m->frame.method;
    event->flags = m->frame.flags & (PISO_CALL_KWARGS | PISO_CALL_NO_REPLY);
    event->parent = m->frame.parent ? find_parent(s, m->frame.parent) : NULL;
    event->deadline_ns = deadline_ns;
    s->stats.calls_received++;
    return 1;
}

static int receive_reply(piso_session *s, message *m, piso_event *event) {
    piso_call *call = piso__slots_get(&s->calls, m->frame.id);
    if (!call)
        return piso__session_protocol_error(s, "it answers a call that was not made");
    if (call == &piso__abandoned_call) {
        piso__slots_remove(&s->calls, m->frame.id);
        int r = drop(s, m);
        if (PISO__UNLIKELY(s->backlog_head != NULL))
            piso__backlog_flush(s);
        return r;
    }
    int r = load(s, m, event);
    if (r < 0)
        return r;
    piso__slots_remove(&s->calls, m->frame.id);
    call->id = 0;
    event->type = m->frame.type == PISO__FRAME_REPLY ? PISO_EVENT_REPLY : PISO_EVENT_ERROR;
    event->call = call;
    s->stats.replies_received++;
    if (PISO__UNLIKELY(s->backlog_head != NULL))
        piso__backlog_flush(s);
    return 1;
}

static int receive_cancel(piso_session *s, const message *m, piso_event *event) {
    if (!piso__session_is_open(s, m->frame.id))
        return 0; /* answered in the meantime */
    s->open_requests[(uint32_t)m->frame.id - 1].cancelled = true;
    event->type = PISO_EVENT_CANCEL;
    event->id = m->frame.id;
    event->nspans = 0;
    event->heap = NULL;
    event->session = s;
    return 1;
}

static int receive_releases(piso_session *s, const message *m) {
    for (size_t at = 0; at < m->body_size; at += PISO__RELEASE_SIZE) {
        uint64_t offset;
        uint32_t generation;
        if (piso__release_decode(m->body + at, &offset, &generation) < 0)
            return piso__session_protocol_error(s, "it releases a buffer by a malformed record");
        if (piso__arena_take_back(s->channel->arena, offset, generation, 0) == 0) /* stale ones are refused */
            piso__arena_release(s->channel->arena, offset, generation);
    }
    return 0;
}

static int receive_retire(piso_session *s, const message *m, piso_event *event) {
    piso_segment *segment;
    int r = piso__session_retired_by_peer(s, m->frame.method, &segment);
    if (r < 0 || !segment)
        return r;
    event->type = PISO_EVENT_RETIRED;
    event->segment = segment;
    event->nspans = 0;
    event->heap = NULL;
    event->session = s;
    return 1;
}

static int handle(piso_session *s, message *m, piso_event *event) {
    switch (m->frame.type) {
    case PISO__FRAME_CALL:
        return receive_call(s, m, event);
    case PISO__FRAME_REPLY:
    case PISO__FRAME_ERROR:
        return receive_reply(s, m, event);
    case PISO__FRAME_CANCEL:
        return receive_cancel(s, m, event);
    case PISO__FRAME_RELEASE:
        return receive_releases(s, m);
    case PISO__FRAME_DEFINE:
        return piso__session_define(s, m->frame.method, m->body, m->body_size);
    case PISO__FRAME_ATTACH:
        return piso__session_attached_by_peer(s, m->frame.method);
    case PISO__FRAME_ATTACHED:
    case PISO__FRAME_REFUSED:
        return piso__session_attach_done(s, m->frame.method, m->frame.type == PISO__FRAME_REFUSED);
    case PISO__FRAME_RETIRE:
        return receive_retire(s, m, event);
    case PISO__FRAME_RETIRED:
        return piso__session_retire_done(s, m->frame.method);
    case PISO__FRAME_END_LEASES:
        piso__session_leases_ended(s, m->body, m->body_size);
        return piso__session_next_released(s, event);
    default: /* PISO__FRAME_GOODBYE */
        s->peer_gone = true;
        return 0;
    }
}

static int receive(piso_session *s, size_t size, message *m, piso_event *event) {
    m->nspans = 0;
    m->table = NULL;
    m->shared_body.length = m->lengths = m->backed = 0;
    int r = piso__frame_decode(s->scratch, size, &m->frame, &m->spans, &m->body, &m->body_size);
    if (r < 0)
        return piso__session_protocol_error(s, "a message is malformed");
    r = m->frame.nspans ? split_spans(s, m) : 0;
    if (r == 0)
        r = handle(s, m, event);
    if (PISO__UNLIKELY(m->table != NULL))
        free(m->table);
    if (r <= 0)
        m->shared_body.length = 0; /* there is no event to copy it to */
    return r;
}

/* ---- events ---- */

/* next_live: returns the next event of a working session. Also returns 0 after many messages without an event,
 * although more are there: a peer that sends such messages for ever must not block the caller. */
static int next_live(piso_session *s, message *m, piso_event *event) {
    for (int i = 0; i < MAX_SILENT; i++) {
        /* must be read before the ring: then everything that the process sent before its end is in the ring */
        bool ended = s->peer_gone || (s->process && piso__process_ended(s->process));
        int64_t size = piso__intake_next(s);
        if (size == 0) {
            if (ended)
                piso__session_fail(s, PISO_EDIED);
            return 0;
        }
        int r = size < 0 ? (int)size : receive(s, (size_t)size, m, event);
        if (r > 0)
            return r;
        if (r < 0) {
            piso__session_fail(s, r);
            return 0;
        }
    }
    return 0;
}

/* fail_event: fills the event of one more call that ends with `error`. */
static int fail_event(piso_session *s, piso_call *call, int error, piso_event *event) {
    call->id = 0;
    event->type = PISO_EVENT_FAILED;
    event->call = call;
    event->error = error;
    event->nspans = 0;
    event->heap = NULL;
    event->session = s;
    return 1;
}

static int fail_expired(piso_session *s, piso_event *event) {
    piso_call *call = s->expired[--s->expired_count];
    return fail_event(s, call, call->error, event);
}

/* drop_end_source: removes the source that reports the peer's end, after it has done so. */
static void drop_end_source(piso_session *s) {
    if (!s->process) {
        piso__epoll_remove(s->epoll_fd, s->channel->socket_fd);
        return;
    }
    piso__process_on_end(s->process, -1, -1);
    piso__epoll_switch(s->epoll_fd, s->channel->beacons.ended, false);
}

/* stop_waking: keeps the descriptor from waking anybody any more: the peer's end would do so for ever. Sleeping
 * threads must still learn of it: each clears the bell and rings it for the next (piso_session_sleep_end). */
static void stop_waking(piso_session *s) {
    if (s->quiet)
        return;
    s->quiet = true;
    piso__session_drop_segments(s);
    drop_end_source(s);
    if (atomic_load(&s->sleepers) == 0)
        piso__session_clear_bells(s);
}

/* next_failed: returns the next call that ends with the failed session, then the session's error. */
static int next_failed(piso_session *s, piso_event *event) {
    int state = atomic_load(&s->state);
    piso_call *call;
    while ((call = piso__slots_take_any(&s->calls)) == &piso__abandoned_call)
        ;
    if (!call)
        call = piso__backlog_take_any(s);
    if (call)
        return fail_event(s, call, state, event);
    if (piso__session_next_lease(s, event) > 0)
        return 1;
    stop_waking(s);
    return state;
}

int piso_session_next(piso_session *s, piso_event *ret_event) {
    if (piso__session_forked(s))
        return PISO_EFORKED;
    if (!piso_session_ready(s))
        return 0;
    if (PISO__UNLIKELY(ret_event->size < offsetof(piso_event, inline_body)))
        return -EINVAL;
    message m = {.shared_body.length = 0};
    int r = 0;
    piso__session_lock(s);
    if (s->queue_head)
        piso__session_flush_queue(s);
    if (s->expired_count)
        r = fail_expired(s, ret_event);
    else if (s->released_count)
        r = piso__session_next_released(s, ret_event);
    else if (atomic_load(&s->state) == 0)
        r = next_live(s, &m, ret_event);
    bool failed = atomic_load(&s->state) != 0;
    if (r == 0 && failed)
        r = next_failed(s, ret_event);
    atomic_store_explicit(&s->attention,
                          failed || s->expired_count > 0 || s->released_count > 0 || s->peer_gone || s->early_head,
                          memory_order_release);
    piso__session_unlock(s);
    if (m.shared_body.length)
        copy_shared_body(s, &m, ret_event);
    return r;
}

/* release_untaken: releases the spans that nobody has taken. */
static void release_untaken(piso_event *event) {
    piso_session *s = event->session;
    piso__session_lock(s);
    for (uint32_t i = 0; i < event->nspans; i++) {
        const piso_span *span = &event->spans[i];
        if (event->segments[i]) {
            piso__session_drop_span(s, span, event->segments[i]);
        } else if (span->segment == PISO__SEGMENT_LEASE) {
            piso__session_queue_lease(s, span->offset);
        } else if (span->segment != TAKEN && !piso__span_in_segment(span)) {
            s->stats.spans_held--;
            piso__session_give_back(s, span);
        }
    }
    piso__session_unlock(s);
    for (uint32_t i = 0; i < event->nspans; i++)
        piso_segment_unref(event->segments[i]);
}

void piso_event_fini(piso_event *event) {
    if (!event)
        return;
    if (event->nspans && !piso__session_forked(event->session))
        release_untaken(event);
    if (event->type == PISO_EVENT_RETIRED)
        event->segment = piso_segment_unref(event->segment);
    if (event->heap)
        atomic_fetch_sub(&event->session->event_bytes, heap_size(event->nspans, event->body_size));
    event->nspans = 0;
    free(event->heap);
    event->heap = NULL;
}

void *piso_event_take_span(piso_event *event, uint32_t index, piso_span *ret_span) {
    if (index >= event->nspans || piso__span_in_segment(&event->spans[index]) || piso__session_forked(event->session))
        return NULL;
    *ret_span = event->spans[index];
    event->spans[index].segment = TAKEN;
    if (ret_span->segment == PISO_SPAN_RETURNED)
        return piso__arena_at(event->session->channel->arena, ret_span->offset);
    return event->session->channel->peer.base + ret_span->offset;
}

uint64_t piso_event_take_lease(piso_event *event, uint32_t index) {
    if (index >= event->nspans || event->spans[index].segment != PISO__SEGMENT_LEASE ||
        piso__session_forked(event->session))
        return 0;
    event->spans[index].segment = TAKEN;
    return event->spans[index].offset;
}
