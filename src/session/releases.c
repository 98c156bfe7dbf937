/* releases.c - gives buffers and leases back to the peer, in batches. */
#include <errno.h>

#include "session/leases.h"
#include "session/send.h"

#define WORTH_WAKING ((uint64_t)1 << 20) /* bytes that are worth waking a sleeping peer for */

static void flush_leases(piso_session *s) {
    piso__frame frame = {.type = PISO__FRAME_END_LEASES};
    if (s->ended_count && piso__session_send(s, &frame, NULL, s->ended, s->ended_count * sizeof *s->ended) != -ENOMEM)
        s->ended_count = 0;
}

void piso__session_flush_releases(piso_session *s) {
    if (atomic_load(&s->state) != 0)
        return;
    flush_leases(s);
    if (s->release_count == 0)
        return;
    piso__frame frame = {.type = PISO__FRAME_RELEASE};
    size_t size = s->release_count * PISO__RELEASE_SIZE;
    int r = s->release_bytes < WORTH_WAKING ? piso__session_send_quietly(s, &frame, s->releases, size)
                                            : piso__session_send(s, &frame, NULL, s->releases, size);
    if (r == -ENOMEM)
        return; /* tried again with the next message */
    s->release_count = 0;
    s->release_bytes = 0;
}

void piso_session_flush(piso_session *s) {
    if (piso__session_check(s) != 0)
        return;
    piso__session_lock(s);
    piso__session_flush_releases(s);
    piso__session_flush_queue(s);
    piso__session_unlock(s);
}

/* ---- buffers ---- */

static void queue_release(piso_session *s, const piso_span *span) {
    if (s->release_count == PISO__RELEASE_BATCH)
        piso__session_flush_releases(s);
    if (s->release_count == PISO__RELEASE_BATCH)
        return; /* the session has failed, or memory is exhausted: the arena is freed with the session */
    piso__release_encode(span->offset, span->generation, &s->releases[s->release_count++ * PISO__RELEASE_SIZE]);
    s->release_bytes += span->length;
}

void piso__session_give_back(piso_session *s, const piso_span *span) {
    if (span->segment == PISO_SPAN_RETURNED)
        piso__arena_release(s->channel->arena, span->offset, span->generation);
    else
        queue_release(s, span);
}

void piso_session_release(piso_session *s, const piso_span *span) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    s->stats.spans_held--;
    piso__session_give_back(s, span);
    piso__session_unlock(s);
}

/* ---- leases ---- */

void piso__session_queue_lease(piso_session *s, uint64_t id) {
    s->stats.leases_held--;
    if (s->ended_count == PISO__RELEASE_BATCH)
        piso__session_flush_releases(s);
    if (s->ended_count < PISO__RELEASE_BATCH) /* else the session has failed, or memory is exhausted */
        s->ended[s->ended_count++] = id;
}

void piso_session_end_lease(piso_session *s, uint64_t id) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    piso__session_queue_lease(s, id);
    piso__session_unlock(s);
}
