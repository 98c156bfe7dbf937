/* intake.c - takes messages out of the ring, in order.
 *
 * A thread that handles a request may ask whether the peer still waits for it (piso_session_cancelled). The answer may
 * be in the ring, behind other messages. These are read early: copied to private memory as they are, where they keep
 * their order and stay ahead of the ring. Nothing in them is checked or acted upon before their turn, except that a
 * CANCEL of an open request marks that request. */
#include <errno.h>
#include <string.h>

#include "session/events/intake.h"
#include "session/send.h"

#define RING_DAMAGED "it wrote into the middle of the ring"
/* Bytes of messages that are read early. Beyond, the ring fills up, and a cancellation is seen late. */
#define MAX_EARLY   ((size_t)16 << 20)
#define MAX_AT_ONCE 1024     /* messages that one question reads */
#define LATE_NS     10000000 /* the caller's own clock ends a call first: a coarse clock may be a tick behind */

/* took: called when a message has been taken out of the ring. */
static void took(piso_session *s, bool wake) {
    atomic_store_explicit(&s->poll_position, s->channel->rx.position, memory_order_relaxed);
    atomic_store_explicit(&s->rang, false, memory_order_relaxed);
    if (wake) {
        s->stats.doorbells_rung++;
        piso__bell_ring(s->channel->bell);
    }
}

static int64_t next_early(piso_session *s) {
    piso__early *early = s->early_head;
    size_t size = early->size;
    s->early_head = early->next;
    if (!s->early_head)
        s->early_tail = &s->early_head;
    s->early_bytes -= sizeof *early + size;
    memcpy(s->scratch, early->data, size);
    free(early);
    return (int64_t)size;
}

int64_t piso__intake_next(piso_session *s) {
    if (PISO__UNLIKELY(s->early_head != NULL))
        return next_early(s);
    piso__ring_consumer *rx = &s->channel->rx;
    int64_t size = piso__ring_peek(rx);
    if (size <= 0)
        return size < 0 ? piso__session_protocol_error(s, RING_DAMAGED) : 0;
    bool wake;
    int r = piso__ring_take(rx, s->scratch, (size_t)size, &wake);
    if (r < 0)
        return piso__session_protocol_error(s, RING_DAMAGED);
    took(s, wake);
    return size;
}

/* ---- reading early ---- */

/* note: marks the request that a CANCEL names. Ignores malformed messages, which are reported when it is their turn. */
static void note(piso_session *s, const piso__early *early) {
    piso__frame frame;
    const uint8_t *spans, *body;
    size_t body_size;
    if (piso__frame_decode(early->data, early->size, &frame, &spans, &body, &body_size) < 0)
        return;
    if (frame.type == PISO__FRAME_CANCEL && piso__session_is_open(s, frame.id))
        s->open_requests[(uint32_t)frame.id - 1].cancelled = true;
    else if (frame.type == PISO__FRAME_GOODBYE)
        s->peer_gone = true;
}

/* read_early: reads one message. Returns false when there is none, or no room for it. A damaged ring is reported by
 * piso__intake_next. */
static bool read_early(piso_session *s) {
    piso__ring_consumer *rx = &s->channel->rx;
    int64_t size = piso__ring_peek(rx);
    if (size <= 0 || s->early_bytes > MAX_EARLY)
        return false;
    piso__early *early = malloc(sizeof *early + (size_t)size + PISO__RING_CHUNK); /* for whole chunks */
    bool wake;
    if (!early || piso__ring_take(rx, early->data, (size_t)size, &wake) < 0) {
        free(early);
        return false;
    }
    early->next = NULL;
    early->size = (size_t)size;
    *s->early_tail = early;
    s->early_tail = &early->next;
    s->early_bytes += sizeof *early + early->size;
    took(s, wake);
    note(s, early);
    return true;
}

/* is_given_up: whether the peer no longer waits for an open request, as far as is known. */
static bool is_given_up(const piso_session *s, const piso__open_request *open) {
    return open->cancelled || s->peer_gone || (s->process && piso__process_ended(s->process)) ||
           (open->deadline_ns != PISO_NO_DEADLINE && piso_now_coarse_ns() - LATE_NS >= open->deadline_ns);
}

int piso_session_cancelled(piso_session *s, uint64_t request) {
    int r = piso__session_check(s);
    if (r != 0)
        return r == PISO_EFORKED ? r : 1;
    piso__session_lock(s);
    if (!piso__session_is_open(s, request)) {
        piso__session_unlock(s);
        return -ENOENT;
    }
    for (int i = 0; i < MAX_AT_ONCE && read_early(s); i++)
        continue;
    if (s->early_head)
        atomic_store_explicit(&s->attention, true, memory_order_release); /* sleepers do not find it in the ring */
    bool given_up = is_given_up(s, &s->open_requests[(uint32_t)request - 1]);
    piso__session_unlock(s);
    return given_up;
}
