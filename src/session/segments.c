/* segments.c - shared segments in a session: which numbers stand for them, and when a number is free again.
 *
 * Each side gives numbers to the segments that it is the first to send, and announces them (ATTACH, with the
 * descriptor in the socket, whose order is that of the frames). A number lives until both have said that they will
 * not use it again: RETIRE from who gave it, RETIRED from the other one. Messages keep their order, so what is on its
 * way when a number is retired still finds it.
 *
 * The socket holds some hundred packets. No more than PISO__ATTACH_CREDIT are under way: the peer acknowledges each
 * that it has taken out, and until then what comes after waits in the queue of send.c. */
#include <errno.h>
#include <string.h>

#include "session/segments.h"
#include "session/send.h"

#define MAX_SEGMENTS (1u << 16)

/* ---- tables ---- */

/* grow: room for `index` in an array whose new part is zeroed. 0 or -ENOMEM. */
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

/* numbers_of: the entry for a segment, or NULL when memory is exhausted. */
static piso__numbers *numbers_of(piso_session *s, const piso_segment *segment) {
    void *array = s->numbers;
    int r = grow(&array, &s->number_capacity, segment->index, sizeof *s->numbers);
    s->numbers = array;
    return r == 0 ? &s->numbers[segment->index] : NULL;
}

/* free_number: the lowest number that we have not given. 0: none left, or no memory. */
static uint32_t free_number(piso_session *s) {
    uint32_t number = s->lowest_free ? s->lowest_free : 1;
    while (number < s->given_capacity && s->given[number].segment)
        number++;
    void *array = s->given;
    int r = number > MAX_SEGMENTS ? -ENOSPC : grow(&array, &s->given_capacity, number, sizeof *s->given);
    s->given = array;
    s->lowest_free = number;
    return r == 0 ? number : 0;
}

/* ---- out ---- */

/* give_number: makes a segment known to the peer. The number, or a negative code. */
static int give_number(piso_session *s, piso_segment *segment, piso__numbers *numbers) {
    uint32_t number = free_number(s);
    if (!number)
        return -ENOBUFS;
    if (segment->fd < 0)
        return -EBADF; /* it came from another peer, and was only mapped */
    if (s->retired_count && s->retired_count >= piso__fd_share())
        return -EMFILE; /* the peer keeps what nobody here uses, with a descriptor of ours for each */
    int r = piso__segment_budget(segment);
    if (r < 0)
        return r;
    s->given[number] = (piso__given){.segment = piso_segment_ref(segment)};
    r = piso__session_send_attach(s, segment, number);
    if (r < 0) {
        s->given[number] = (piso__given){.segment = NULL};
        piso_segment_unref(segment);
        return r;
    }
    s->lowest_free = number + 1;
    s->given_count++;
    s->stats.segments++;
    numbers->given = number;
    return (int)number;
}

/* name_segment: what stands for a segment on the wire; the peer gets to know it first where it does not. */
static int name_segment(piso_session *s, piso_segment *segment, uint32_t *ret_name) {
    piso__numbers *numbers = numbers_of(s, segment);
    if (!numbers)
        return -ENOMEM;
    if (numbers->taken) {
        *ret_name = numbers->taken | PISO__SEGMENT_YOURS;
        return 0;
    }
    int r = numbers->given ? (int)numbers->given : give_number(s, segment, numbers);
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
    bool named = span->segment && span->segment <= w->nsegments; /* 0: the arena; large: returned, a lease */
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

/* take_back: the peer hears that a number of ours will not be used again. */
static void take_back(piso_session *s, uint32_t number) {
    piso_segment *segment = s->given[number].segment;
    s->numbers[segment->index].given = 0;
    s->given[number].retired = true;
    s->retired_count++;
    piso__segment_unbudget(segment); /* the peer hears of it before it hears of any other */
    piso__frame frame = {.type = PISO__FRAME_RETIRE, .method = number};
    piso__session_send(s, &frame, NULL, NULL, 0);
}

/* give_up: a number of the peer's is not used here any more. 0, or what piso__session_send returns; *ret_segment, which may
 * be NULL, is the caller's in any case. */
static int give_up(piso_session *s, uint32_t number, piso_segment **ret_segment) {
    piso_segment *segment = s->taken[number].segment;
    if (segment && !s->taken[number].retiring)
        s->taken_bytes -= segment->size;
    s->taken[number] = (piso__taken){.segment = NULL};
    *ret_segment = segment;
    if (segment) {
        s->taken_count--;
        s->stats.segments--;
        if (s->numbers[segment->index].taken == number) /* the same memory may have come under two */
            s->numbers[segment->index].taken = 0;
    }
    piso__frame frame = {.type = PISO__FRAME_RETIRED, .method = number};
    return piso__session_send(s, &frame, NULL, NULL, 0);
}

void piso_session_retire(piso_session *s, piso_segment *segment) {
    if (piso__session_check(s) != 0)
        return;
    piso_segment *unused = NULL;
    piso__session_lock(s);
    piso__numbers numbers = {.given = 0};
    if (segment->index < s->number_capacity)
        numbers = s->numbers[segment->index];
    if (numbers.given)
        take_back(s, numbers.given);
    if (numbers.taken && s->taken[numbers.taken].retiring && !s->taken[numbers.taken].in_hand)
        give_up(s, numbers.taken, &unused);
    piso__session_unlock(s);
    piso_segment_unref(unused);
}

void piso__session_retire_unused(piso_session *s, const piso_writer *w) {
    for (uint32_t i = 0; i < w->nsegments; i++) {
        const piso_segment *segment = w->segments[i];
        uint32_t given = segment->index < s->number_capacity ? s->numbers[segment->index].given : 0;
        if (given && !__atomic_load_n(&segment->cell, __ATOMIC_ACQUIRE))
            take_back(s, given);
    }
}

bool piso_session_has_segment(piso_session *s, const piso_segment *segment) {
    if (piso__session_forked(s))
        return false;
    piso__session_lock(s);
    uint32_t number = segment->index < s->number_capacity ? s->numbers[segment->index].taken : 0;
    bool has = number && !s->taken[number].retiring;
    piso__session_unlock(s);
    return has;
}

void piso_session_share(piso_session *s, bool allowed) {
    piso__session_lock(s);
    s->may_share = allowed;
    piso__session_unlock(s);
}

/* ---- in ---- */

/* check_room: 0, or why one more segment of the peer's cannot be had. What it has taken back counts as long as somebody here
 * has it: to attach and take back without end would use up what this process has. */
static int check_room(piso_session *s) {
    if (!s->share && !(s->share = piso__share_new()))
        return -ENOMEM;
    uint32_t alive = atomic_load(&s->share->segments), count = alive > s->taken_count ? alive : s->taken_count;
    if (count >= piso__segment_limit() / 2)
        return -ENOBUFS;
    return !s->keeps_none && count >= piso__fd_share() ? -EMFILE : 0;
}

/* receive_segment: what the peer sends under a number. 0; why it cannot be had here: -EMFILE, -ENOBUFS; or what ends the
 * session. */
static int receive_segment(piso_session *s, uint32_t number, piso_segment **ret_segment) {
    piso__attachment packet = {.zero = 0}; /* one may be shorter */
    int fd = -1;
    /* it was put into the socket before the frame into the ring */
    int r = piso__receive_fds(s->channel->socket_fd, &packet, sizeof packet, &fd, 1, true);
    if (r < 0 && r != -EMFILE)
        return r == -ENOMEM ? r : piso__session_wrong(s, "a descriptor that it announced is not there");
    if (packet.number != number || packet.zero) {
        piso__fd_close(fd);
        return piso__session_wrong(s, "a descriptor does not fit its announcement");
    }
    if (r == 0)
        r = check_room(s);
    if (r < 0)
        piso__fd_close(fd);
    else
        r = piso__segment_adopt(fd, packet.size, s->share, ret_segment);
    return r == PISO_EPROTO
               ? piso__session_wrong(s, "a descriptor is no sealed memory of the size it told, or not all there")
               : r;
}

/* keep_segment: it is the peer's segment of this number from now on. Takes it. */
static int keep_segment(piso_session *s, uint32_t number, piso_segment *segment) {
    s->taken[number].segment = segment;
    s->taken_bytes += segment->size;
    s->taken_count++;
    s->stats.segments++;
    if (s->shared_limit && s->taken_bytes > s->shared_limit)
        return piso__session_wrong(s, "it shares more memory than its limit, shared_memory, allows");
    piso__numbers *numbers = numbers_of(s, segment);
    if (!numbers)
        return -ENOMEM;
    uint32_t earlier = numbers->taken;
    numbers->taken = number;
    if (!earlier || !s->taken[earlier].retiring)
        return 0;
    piso_segment *same;
    int r = give_up(s, earlier, &same);
    piso_segment_unref(same); /* not the last one */
    return r;
}

static bool is_taken(const piso_session *s, uint32_t number) {
    return number < s->taken_capacity && (s->taken[number].segment || s->taken[number].refused);
}

int piso__session_attached_by_peer(piso_session *s, uint32_t number) {
    if (!s->may_share || number == 0 || number > MAX_SEGMENTS)
        return piso__session_wrong(s, "it sends a descriptor that was not asked for");
    if (is_taken(s, number))
        return piso__session_wrong(s, "a descriptor does not fit its announcement");
    void *array = s->taken;
    int r = grow(&array, &s->taken_capacity, number, sizeof *s->taken);
    s->taken = array;
    piso_segment *segment;
    if (r == 0)
        r = receive_segment(s, number, &segment);
    piso__frame frame = {.type = PISO__FRAME_ATTACHED, .method = number};
    if (r == -EMFILE || r == -ENOBUFS) {
        s->taken[number].refused = r;
        frame.type = PISO__FRAME_REFUSED;
    } else if (r < 0 || (r = keep_segment(s, number, segment)) < 0) {
        return r;
    }
    return piso__session_send(s, &frame, NULL, NULL, 0);
}

int piso__session_attach_done(piso_session *s, uint32_t number, bool refused) {
    if (number >= s->given_capacity || !s->given[number].sent || s->given[number].attached ||
        s->attach_credit == PISO__ATTACH_CREDIT)
        return piso__session_wrong(s, "it acknowledges a descriptor that was not sent");
    s->given[number].attached = true;
    s->attach_credit++;
    if (refused && !s->given[number].retired)
        take_back(s, number); /* the next message that uses the segment tries again */
    piso__session_flush_queue(s);
    return 0;
}

int piso__session_retired_by_peer(piso_session *s, uint32_t number, piso_segment **ret_segment) {
    if (!is_taken(s, number) || s->taken[number].retiring)
        return piso__session_wrong(s, "it takes back a segment that it has not sent");
    piso__taken *taken = &s->taken[number];
    /* piso_session_retire gives it up, or the end of the last event that names it: whoever takes it out of the event may
     * close the descriptor */
    if (taken->segment && (taken->segment->fd < 0 || taken->in_hand)) {
        taken->retiring = true;
        s->taken_bytes -= taken->segment->size;
        *ret_segment = piso_segment_ref(taken->segment);
        return 0;
    }
    int r = give_up(s, number, ret_segment);
    if (r < 0)
        piso_segment_unref(*ret_segment);
    return r;
}

int piso__session_retire_done(piso_session *s, uint32_t number) {
    if (number >= s->given_capacity || !s->given[number].retired || !s->given[number].attached)
        return piso__session_wrong(s, "it gives up a segment that was not taken back");
    piso_segment_unref(s->given[number].segment);
    s->given[number] = (piso__given){.segment = NULL};
    s->given_count--;
    s->retired_count--;
    s->stats.segments--;
    if (number < s->lowest_free)
        s->lowest_free = number;
    return 0;
}

int piso__session_find_segment(piso_session *s, const piso_span *span, piso_segment **ret_segment, bool *ret_ours) {
    bool ours = span->segment & PISO__SEGMENT_YOURS; /* said by the peer */
    uint32_t number = span->segment & ~PISO__SEGMENT_YOURS;
    piso_segment *segment = NULL;
    if (!ours && is_taken(s, number) && s->taken[number].refused)
        return s->taken[number].refused;
    if (ours)
        segment = number < s->given_capacity ? s->given[number].segment : NULL;
    else
        segment = number < s->taken_capacity ? s->taken[number].segment : NULL;
    if (!segment || span->generation || span->length == 0 || span->offset > segment->size ||
        span->length > segment->size - span->offset)
        return PISO_EPROTO;
    if (!ours)
        s->taken[number].in_hand++;
    *ret_ours = ours;
    *ret_segment = piso_segment_ref(segment);
    return 0;
}

void piso__session_let_go(piso_session *s, const piso_span *span, const piso_segment *segment) {
    uint32_t number = span->segment;
    piso__taken *taken = number < s->taken_capacity ? &s->taken[number] : NULL;
    if (!taken || taken->segment != segment || !taken->in_hand) /* it is ours, or the session has ended */
        return;
    taken->in_hand--;
    bool used = segment->fd < 0 && __atomic_load_n(&segment->cell, __ATOMIC_ACQUIRE);
    if (taken->in_hand || !taken->retiring || used || atomic_load(&s->state) != 0)
        return;
    piso_segment *unused;
    give_up(s, number, &unused);
    piso_segment_unref(unused); /* not the last one: the event has another */
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
    free(s->numbers);
    s->given = NULL;
    s->taken = NULL;
    s->numbers = NULL;
    s->given_capacity = s->taken_capacity = s->number_capacity = s->lowest_free = 0;
    s->stats.segments = 0;
    s->given_count = s->taken_count = s->retired_count = 0;
    s->taken_bytes = 0;
}
