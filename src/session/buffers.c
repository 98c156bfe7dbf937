/* buffers.c - shared buffers: ours, which we allocate and the peer releases; the peer's, which we release in
 * batches. */
#include <errno.h>
#include <string.h>

#include "memory/quota.h"
#include "session/buffers.h"
#include "session/leases.h"
#include "session/segments.h"
#include "session/send.h"

#define LONG_TO_FILL ((size_t)1 << 20)

int piso__session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data) {
    piso_span span;
    void *data;
    if (size >= LONG_TO_FILL) /* before pages are made for it */
        piso__session_announce(s, true);
    piso__arena *a = s->channel->arena;
    int r = piso__arena_alloc(a, size, &span, &data);
    /* free memory that is kept for reuse may be at places where this buffer does not fit */
    if (r == -ENOMEM || r == -EDQUOT) {
        piso__arena_trim(a, 0);
        r = piso__arena_alloc(a, size, &span, &data);
    }
    uint64_t limit = s->shared_limit ? s->shared_limit : piso__quota_limit();
    if (r == -ENOMEM && piso__arena_live(a) + size > limit / 2)
        r = -EDQUOT; /* the arena is not larger than that */
    if (r < 0 && size >= LONG_TO_FILL)
        piso__session_announce(s, false);
    if (r < 0)
        return r;
    *ret_span = span;
    *ret_data = data;
    return 0;
}

int piso_session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data) {
    int r = piso__session_check(s);
    if (r < 0)
        return r;
    piso__session_lock(s);
    r = piso__session_alloc(s, size, ret_span, ret_data);
    piso__session_unlock(s);
    return r;
}

/* turned: the same buffer, seen from the other side. A returned span is in the receiver's arena in a message,
 * and in ours in an event. */
static piso_span turned(const piso_span *span) {
    piso_span other = *span;
    if ((span->segment & ~PISO_SPAN_RETURNED) == 0)
        other.segment ^= PISO_SPAN_RETURNED;
    return other;
}

int piso_session_return_span(piso_session *s, piso_writer *w, const piso_span *span, size_t length) {
    if (length == 0 || length > span->length || (span->segment & ~PISO_SPAN_RETURNED) != 0)
        return -EINVAL;
    int r = piso__session_check(s);
    if (r < 0)
        return r;
    piso_span mine = turned(span);
    mine.length = length;
    r = piso_writer_add_span(w, &mine);
    if (r < 0)
        return r;
    piso__session_lock(s);
    s->stats.spans_held--;
    piso__session_unlock(s);
    return r;
}

void piso__session_discard(piso_session *s, piso_writer *w) {
    for (uint32_t i = 0; i < w->nspans; i++) {
        piso_span span = turned(&w->spans[i]);
        if (!piso__span_in_segment(&span))
            piso__session_give_back(s, &span);
    }
    piso__session_discard_leases(s, w);
    if (s->announced)
        piso__session_announce(s, false);
    w->nspans = 0;
}

void piso_session_discard_spans(piso_session *s, piso_writer *w) {
    if (!piso__session_forked(s)) {
        piso__session_lock(s);
        piso__session_discard(s, w);
        piso__session_unlock(s);
    }
    piso__writer_drop_segments(w);
    w->nspans = 0;
}

void piso__session_lend_spans(piso_session *s, const piso_writer *w) {
    for (uint32_t i = 0; i < w->nspans; i++)
        if (w->spans[i].segment == 0)
            piso__arena_lend(s->channel->arena, w->spans[i].offset, w->spans[i].generation);
}

int piso__session_check_span(piso_session *s, const piso_span *span) {
    if (span->segment != PISO_SPAN_RETURNED)
        return piso__arena_check(&s->channel->peer, span) ? 0 : PISO_EPROTO;
    bool good =
        span->length > 0 && piso__arena_take_back(s->channel->arena, span->offset, span->generation, span->length) == 0;
    return good ? 0 : PISO_EPROTO;
}

void piso_session_trim(piso_session *s, size_t keep_bytes) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    piso__arena_trim(s->channel->arena, keep_bytes);
    piso__session_unlock(s);
}
