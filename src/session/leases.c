/* leases.c - leases: what one side keeps for its peer. Nothing here knows what that is.
 *
 * A lease is sent as a span of a message. So any code that drops a message gives it back: a writer that is not
 * sent, a reply that nobody waits for, an event that is not read. The peer ends it by its id. Ids that are
 * unknown, or not known any more, are ignored: a peer can only name what it was given, and each id works once. */
#include <errno.h>
#include <string.h>

#include "session/leases.h"

#define MAX_LEASES (1u << 20)

/* make_room: makes room for the cookies of all leases, so that ending one needs no memory. */
static int make_room(piso_session *s) {
    size_t needed = (size_t)s->leases.live + s->released_count + 1;
    if (needed <= s->released_capacity)
        return 0;
    size_t capacity = s->released_capacity ? s->released_capacity * 2 : 16;
    void **released = reallocarray(s->released, capacity, sizeof *released);
    if (!released)
        return -ENOMEM;
    s->released = released;
    s->released_capacity = capacity;
    return 0;
}

int piso_session_lease(piso_session *s, piso_writer *w, void *cookie) {
    int r = piso__session_check(s);
    if (r < 0 || !cookie || w->error)
        return r < 0 ? r : cookie ? w->error : -EINVAL;
    piso_span span = {.segment = PISO__SEGMENT_LEASE};
    piso__session_lock(s);
    r = atomic_load(&s->state); /* another thread may have closed it */
    if (r == 0 && s->leases.live == MAX_LEASES)
        r = -ENOBUFS;
    if (r == 0)
        r = make_room(s);
    if (r == 0 && !(span.offset = piso__slots_add(&s->leases, cookie)))
        r = -ENOMEM;
    if (r == 0 && (r = piso_writer_add_span(w, &span)) < 0)
        piso__slots_remove(&s->leases, span.offset); /* the caller still has the cookie */
    piso__session_unlock(s);
    return r;
}

bool piso__session_release_lease(piso_session *s, uint64_t id) {
    void *cookie = piso__slots_remove(&s->leases, id);
    if (cookie)
        s->released[s->released_count++] = cookie;
    return cookie != NULL;
}

void piso__session_discard_leases(piso_session *s, const piso_writer *w) {
    bool some = false;
    for (uint32_t i = 0; i < w->nspans; i++)
        if (w->spans[i].segment == PISO__SEGMENT_LEASE)
            some |= piso__session_release_lease(s, w->spans[i].offset);
    if (some) {
        atomic_store_explicit(&s->attention, true, memory_order_release);
        piso__channel_ring_self(s->channel); /* a thread must wake up to take the cookies */
    }
}

int piso__session_leases_ended(piso_session *s, const uint8_t *ids, size_t size) {
    for (size_t at = 0; at < size; at += PISO__LEASE_SIZE) {
        uint64_t id;
        memcpy(&id, ids + at, sizeof id);
        piso__session_release_lease(s, id);
    }
    return 0;
}

/* released: fills the event that returns a cookie. */
static int released(piso_session *s, void *cookie, piso_event *event) {
    event->type = PISO_EVENT_RELEASED;
    event->cookie = cookie;
    event->nspans = 0;
    event->heap = NULL;
    event->session = s;
    return 1;
}

int piso__session_next_released(piso_session *s, piso_event *event) {
    return s->released_count ? released(s, s->released[--s->released_count], event) : 0;
}

int piso__session_next_lease(piso_session *s, piso_event *event) {
    void *cookie = piso__slots_take_any(&s->leases);
    return cookie ? released(s, cookie, event) : 0;
}
