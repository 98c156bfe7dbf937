/* segments.c - shared segments in a session: the life of their ids.
 *
 * Each side gives ids to the segments that it is the first to send, and announces them: it puts the descriptor
 * into the socket and sends ATTACH. Descriptors have the order of their frames. An id lives until both sides
 * have declared that they will not use it again: RETIRE from the side that gave it, RETIRED from the other.
 * Messages keep their order, so a message that was under way when the id was retired still finds the segment.
 *
 * The socket holds some hundred packets. At most PISO__ATTACH_CREDIT packets are under way: the peer
 * acknowledges each that it has taken out, and until then further ones wait in the queue of send.c. */
#include <errno.h>
#include <string.h>

#include "session/segments.h"
#include "session/send.h"

#define MAX_SEGMENTS (1u << 16)

/* ---- tables ---- */

/* grow: makes room for `index` in an array; new entries are zero. 0 or -ENOMEM. */
static int grow(void **array, uint32_t *capacity, uint32_t index, size_t item_size) {
    if (index < *capacity)
        return 0;
    uint32_t needed = *capacity ? *capacity : 16;
    while (needed <= index)
        needed *= 2;
    uint8_t *items = reallocarray(*array, needed, item_size);
    if (!items)
        return -ENOMEM;
    memset(items + *capacity * item_size, 0, (needed - *capacity) * item_size);
    *array = items;
    *capacity = needed;
    return 0;
}

/* ids_of: returns the entry of a segment, or NULL when memory is exhausted. */
static piso__segment_ids *ids_of(piso_session *s, const piso_segment *segment) {
    void *array = s->ids;
    int r = grow(&array, &s->id_capacity, segment->index, sizeof *s->ids);
    s->ids = array;
    return r == 0 ? &s->ids[segment->index] : NULL;
}

/* free_id: returns the lowest id that we have not given. 0: none left, or no memory. */
static uint32_t free_id(piso_session *s) {
    uint32_t id = s->lowest_free ? s->lowest_free : 1;
    while (id < s->given_capacity && s->given[id].segment)
        id++;
    void *array = s->given;
    int r = id > MAX_SEGMENTS ? -ENOSPC : grow(&array, &s->given_capacity, id, sizeof *s->given);
    s->given = array;
    s->lowest_free = id;
    return r == 0 ? id : 0;
}

/* ---- outgoing ---- */

/* give_id: makes a segment known to the peer. Returns the id, or a negative code. */
static int give_id(piso_session *s, piso_segment *segment, piso__segment_ids *ids) {
    uint32_t id = free_id(s);
    if (!id)
        return -ENOBUFS;
    if (segment->fd < 0)
        return -EBADF; /* it came from another peer, and is only mapped */
    if (s->retired_count && s->retired_count >= piso__fd_share())
        return -EMFILE; /* the peer keeps segments that nobody here uses, and each takes a descriptor of ours */
    int r = piso__segment_charge(segment);
    if (r < 0)
        return r;
    s->given[id] = (piso__given){.segment = piso_segment_ref(segment)};
    r = piso__session_send_attach(s, segment, id);
    if (r < 0) {
        s->given[id] = (piso__given){.segment = NULL};
        piso_segment_unref(segment);
        return r;
    }
    s->lowest_free = id + 1;
    s->given_count++;
    s->stats.segments++;
    ids->given = id;
    return (int)id;
}

/* name_segment: returns the id of a segment on the wire, and makes the segment known to the peer if it is not. */
static int name_segment(piso_session *s, piso_segment *segment, uint32_t *ret_name) {
    piso__segment_ids *ids = ids_of(s, segment);
    if (!ids)
        return -ENOMEM;
    if (ids->taken) {
        *ret_name = ids->taken | PISO__SEGMENT_YOURS;
        return 0;
    }
    int r = ids->given ? (int)ids->given : give_id(s, segment, ids);
    if (r < 0)
        return r;
    *ret_name = (uint32_t)r;
    return 0;
}

int piso__session_name_spans(piso_session *s, const piso_writer *w, piso_span *ret_spans) {
    for (uint32_t i = 0; i < w->nspans; i++) {
        ret_spans[i] = w->spans[i];
        uint32_t segment = w->spans[i].segment;
        bool named = segment && segment != PISO__SEGMENT_LEASE && segment != PISO_SPAN_RETURNED;
        int r = named ? name_segment(s, w->segments[segment - 1], &ret_spans[i].segment) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* is_there: whether a span of this message is that part of the segment. */
static bool is_there(const piso_writer *w, uint32_t index, const piso_segment *segment, uint64_t offset,
                     uint64_t length) {
    if (index >= w->nspans)
        return false;
    const piso_span *span = &w->spans[index];
    bool named = span->segment && span->segment <= w->nsegments; /* 0: the arena; large values: returned, a lease */
    return named && w->segments[span->segment - 1] == segment && span->offset == offset && span->length == length;
}

int piso_writer_add_segment(piso_writer *w, piso_segment *segment, uint64_t offset, uint64_t length) {
    if (offset > segment->size || length > segment->size - offset || length == 0)
        return -EINVAL;
    if (w->error)
        return w->error;
    uint32_t last = atomic_load_explicit(&segment->last_span, memory_order_relaxed);
    if (is_there(w, last, segment, offset, length))
        return (int)last;
    if (w->nsegments == w->segment_capacity) {
        uint32_t capacity = w->segment_capacity ? w->segment_capacity * 2 : 4;
        piso_segment **segments = reallocarray(w->segments, capacity, sizeof(piso_segment *));
        if (!segments)
            return w->error = -ENOMEM;
        w->segments = segments;
        w->segment_capacity = capacity;
    }
    piso_span span = {.segment = w->nsegments + 1, .offset = offset, .length = length};
    int index = piso_writer_add_span(w, &span);
    if (index >= 0) {
        w->segments[w->nsegments++] = piso_segment_ref(segment);
        atomic_store_explicit(&segment->last_span, (uint32_t)index, memory_order_relaxed);
    }
    return index;
}

void piso__writer_drop_segments(piso_writer *w) {
    while (w->nsegments)
        piso_segment_unref(w->segments[--w->nsegments]);
}

/* retire: retires an id that we gave. */
static void retire(piso_session *s, uint32_t id) {
    piso_segment *segment = s->given[id].segment;
    s->ids[segment->index].given = 0;
    s->given[id].retired = true;
    s->retired_count++;
    piso__segment_uncharge(segment); /* the peer learns of it before it learns of any other segment */
    piso__frame frame = {.type = PISO__FRAME_RETIRE, .method = id};
    piso__session_send(s, &frame, NULL, NULL, 0);
}

/* acknowledge_retired: tells the peer that its id is not used here any more. Returns what piso__session_send
 * returns. The caller gets *ret_segment, which may be NULL, in any case. */
static int acknowledge_retired(piso_session *s, uint32_t id, piso_segment **ret_segment) {
    piso_segment *segment = s->taken[id].segment;
    if (segment && !s->taken[id].retiring)
        s->taken_bytes -= segment->size;
    s->taken[id] = (piso__taken){.segment = NULL};
    *ret_segment = segment;
    if (segment) {
        s->taken_count--;
        s->stats.segments--;
        if (s->ids[segment->index].taken == id) /* the same memory may have come under two ids */
            s->ids[segment->index].taken = 0;
    }
    piso__frame frame = {.type = PISO__FRAME_RETIRED, .method = id};
    return piso__session_send(s, &frame, NULL, NULL, 0);
}

void piso_session_retire(piso_session *s, piso_segment *segment) {
    if (piso__session_check(s) != 0)
        return;
    piso_segment *unused = NULL;
    piso__session_lock(s);
    piso__segment_ids ids = {.given = 0};
    if (segment->index < s->id_capacity)
        ids = s->ids[segment->index];
    if (ids.given)
        retire(s, ids.given);
    if (ids.taken && s->taken[ids.taken].retiring && !s->taken[ids.taken].open_events)
        acknowledge_retired(s, ids.taken, &unused);
    piso__session_unlock(s);
    piso_segment_unref(unused);
}

void piso__session_retire_unused(piso_session *s, const piso_writer *w) {
    for (uint32_t i = 0; i < w->nsegments; i++) {
        const piso_segment *segment = w->segments[i];
        uint32_t given = segment->index < s->id_capacity ? s->ids[segment->index].given : 0;
        if (given && !__atomic_load_n(&segment->cell, __ATOMIC_ACQUIRE))
            retire(s, given);
    }
}

bool piso_session_has_segment(piso_session *s, const piso_segment *segment) {
    if (piso__session_forked(s))
        return false;
    piso__session_lock(s);
    uint32_t id = segment->index < s->id_capacity ? s->ids[segment->index].taken : 0;
    bool has = id && !s->taken[id].retiring;
    piso__session_unlock(s);
    return has;
}

void piso_session_share(piso_session *s, bool allowed) {
    piso__session_lock(s);
    s->may_share = allowed;
    piso__session_unlock(s);
}

/* ---- incoming ---- */

/* check_room: returns 0, or why no further segment of the peer can be accepted. A retired segment counts while
 * anybody here has it: otherwise a peer could exhaust this process by attaching and retiring without end. */
static int check_room(piso_session *s) {
    if (!s->share && !(s->share = piso__share_new()))
        return -ENOMEM;
    uint32_t alive = atomic_load(&s->share->segments), count = alive > s->taken_count ? alive : s->taken_count;
    if (count >= piso__segment_limit() / 2)
        return -ENOBUFS;
    return !s->keeps_none && count >= piso__fd_share() ? -EMFILE : 0;
}

/* receive_segment: receives what the peer sends for an id. 0; -EMFILE or -ENOBUFS when the segment cannot be
 * accepted; or an error that ends the session. */
static int receive_segment(piso_session *s, uint32_t id, piso_segment **ret_segment) {
    piso__attachment packet = {.zero = 0}; /* a packet may be shorter */
    int fd = -1;
    /* does not wait: the peer puts it into the socket before it sends the frame */
    int r = piso__receive_fds(s->channel->socket_fd, &packet, sizeof packet, &fd, 1, true);
    if (r < 0 && r != -EMFILE)
        return r == -ENOMEM ? r : piso__session_protocol_error(s, "a descriptor that it announced is missing");
    if (packet.id != id || packet.zero) {
        piso__fd_close(fd);
        return piso__session_protocol_error(s, "a descriptor does not fit its announcement");
    }
    if (r == 0)
        r = check_room(s);
    if (r < 0)
        piso__fd_close(fd);
    else
        r = piso__segment_adopt(fd, packet.size, s->share, ret_segment);
    return r == PISO_EPROTO ? piso__session_protocol_error(
                                  s, "a descriptor is not sealed memory of the announced size, or has missing pages")
                            : r;
}

/* keep_segment: stores the segment of the peer's id. Takes it. */
static int keep_segment(piso_session *s, uint32_t id, piso_segment *segment) {
    s->taken[id].segment = segment;
    s->taken_bytes += segment->size;
    s->taken_count++;
    s->stats.segments++;
    if (s->shared_limit && s->taken_bytes > s->shared_limit)
        return piso__session_protocol_error(s, "it shares more memory than its limit, shared_memory, allows");
    piso__segment_ids *ids = ids_of(s, segment);
    if (!ids)
        return -ENOMEM;
    uint32_t earlier = ids->taken;
    ids->taken = id;
    if (!earlier || !s->taken[earlier].retiring)
        return 0;
    piso_segment *same;
    int r = acknowledge_retired(s, earlier, &same);
    piso_segment_unref(same); /* not the last reference */
    return r;
}

static bool is_taken(const piso_session *s, uint32_t id) {
    return id < s->taken_capacity && (s->taken[id].segment || s->taken[id].refused);
}

int piso__session_attached_by_peer(piso_session *s, uint32_t id) {
    if (!s->may_share || id == 0 || id > MAX_SEGMENTS)
        return piso__session_protocol_error(s, "it sends a descriptor that was not requested");
    if (is_taken(s, id))
        return piso__session_protocol_error(s, "a descriptor does not fit its announcement");
    void *array = s->taken;
    int r = grow(&array, &s->taken_capacity, id, sizeof *s->taken);
    s->taken = array;
    piso_segment *segment;
    if (r == 0)
        r = receive_segment(s, id, &segment);
    piso__frame frame = {.type = PISO__FRAME_ATTACHED, .method = id};
    if (r == -EMFILE || r == -ENOBUFS) {
        s->taken[id].refused = r;
        frame.type = PISO__FRAME_REFUSED;
    } else if (r < 0 || (r = keep_segment(s, id, segment)) < 0) {
        return r;
    }
    return piso__session_send(s, &frame, NULL, NULL, 0);
}

int piso__session_attach_done(piso_session *s, uint32_t id, bool refused) {
    if (id >= s->given_capacity || !s->given[id].sent || s->given[id].attached ||
        s->attach_credit == PISO__ATTACH_CREDIT)
        return piso__session_protocol_error(s, "it acknowledges a descriptor that was not sent");
    s->given[id].attached = true;
    s->attach_credit++;
    if (refused && !s->given[id].retired)
        retire(s, id); /* the next message that uses the segment tries again */
    piso__session_flush_queue(s);
    return 0;
}

int piso__session_retired_by_peer(piso_session *s, uint32_t id, piso_segment **ret_segment) {
    if (!is_taken(s, id) || s->taken[id].retiring)
        return piso__session_protocol_error(s, "it retires a segment that it has not sent");
    piso__taken *taken = &s->taken[id];
    /* piso_session_retire, or the end of the last event that names it, gives it up; whoever takes it out of the
     * event may close the descriptor */
    if (taken->segment && (taken->segment->fd < 0 || taken->open_events)) {
        taken->retiring = true;
        s->taken_bytes -= taken->segment->size;
        *ret_segment = piso_segment_ref(taken->segment);
        return 0;
    }
    int r = acknowledge_retired(s, id, ret_segment);
    if (r < 0)
        piso_segment_unref(*ret_segment);
    return r;
}

int piso__session_retire_done(piso_session *s, uint32_t id) {
    if (id >= s->given_capacity || !s->given[id].retired || !s->given[id].attached)
        return piso__session_protocol_error(s, "it acknowledges the end of a segment that was not retired");
    piso_segment_unref(s->given[id].segment);
    s->given[id] = (piso__given){.segment = NULL};
    s->given_count--;
    s->retired_count--;
    s->stats.segments--;
    if (id < s->lowest_free)
        s->lowest_free = id;
    return 0;
}

int piso__session_find_segment(piso_session *s, const piso_span *span, piso_segment **ret_segment, bool *ret_ours) {
    bool ours = span->segment & PISO__SEGMENT_YOURS; /* as the peer says */
    uint32_t id = span->segment & ~PISO__SEGMENT_YOURS;
    piso_segment *segment = NULL;
    if (!ours && is_taken(s, id) && s->taken[id].refused)
        return s->taken[id].refused;
    if (ours)
        segment = id < s->given_capacity ? s->given[id].segment : NULL;
    else
        segment = id < s->taken_capacity ? s->taken[id].segment : NULL;
    if (!segment || span->generation || span->length == 0 || span->offset > segment->size ||
        span->length > segment->size - span->offset)
        return PISO_EPROTO;
    if (!ours)
        s->taken[id].open_events++;
    *ret_ours = ours;
    *ret_segment = piso_segment_ref(segment);
    return 0;
}

void piso__session_drop_span(piso_session *s, const piso_span *span, const piso_segment *segment) {
    uint32_t id = span->segment;
    piso__taken *taken = id < s->taken_capacity ? &s->taken[id] : NULL;
    if (!taken || taken->segment != segment || !taken->open_events) /* it is ours, or the session has ended */
        return;
    taken->open_events--;
    bool used = segment->fd < 0 && __atomic_load_n(&segment->cell, __ATOMIC_ACQUIRE);
    if (taken->open_events || !taken->retiring || used || atomic_load(&s->state) != 0)
        return;
    piso_segment *unused;
    acknowledge_retired(s, id, &unused);
    piso_segment_unref(unused); /* not the last reference: the event has another */
}

int piso_event_refused(const piso_event *event, uint32_t index) {
    bool refused = index < event->nspans && event->spans[index].segment == PISO__SEGMENT_REFUSED;
    return refused ? (int)(int64_t)event->spans[index].offset : 0;
}

piso_segment *piso_event_take_segment(piso_event *event, uint32_t index, piso_span *ret_span, bool *ret_ours) {
    if (index >= event->nspans || !event->segments[index])
        return NULL;
    *ret_span = event->spans[index];
    *ret_ours = ret_span->generation != 0;
    return piso_segment_ref(event->segments[index]);
}

void piso__session_drop_segments(piso_session *s) {
    for (uint32_t i = 0; i < s->given_capacity; i++)
        piso_segment_unref(s->given[i].segment);
    for (uint32_t i = 0; i < s->taken_capacity; i++)
        piso_segment_unref(s->taken[i].segment);
    free(s->given);
    free(s->taken);
    free(s->ids);
    s->given = NULL;
    s->taken = NULL;
    s->ids = NULL;
    s->given_capacity = s->taken_capacity = s->id_capacity = s->lowest_free = 0;
    s->stats.segments = 0;
    s->given_count = s->taken_count = s->retired_count = 0;
    s->taken_bytes = 0;
}
