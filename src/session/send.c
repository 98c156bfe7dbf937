/* send.c - writes messages into the ring, in order, without ever blocking. Messages that find the ring full
 * wait in private memory. */
#include <errno.h>
#include <string.h>

#include "session/send.h"

#define IMPOSSIBLE_CURSOR "it claims to have read messages that were never written"

void piso__session_announce(piso_session *s, bool coming) {
    s->announced = coming;
    uint32_t cpu = coming ? (uint32_t)(piso__cpu_current() + 1) : 0;
    atomic_store_explicit(&s->channel->tx.shared->coming, cpu, memory_order_relaxed);
}

int piso__session_protocol_error(piso_session *s, const char *fault) {
    if (!atomic_load(&s->fault))
        atomic_store(&s->fault, fault);
    return PISO_EPROTO;
}

static void wake_peer(piso_session *s) {
    if (PISO__UNLIKELY(s->announced))
        piso__session_announce(s, false);
    if (piso__ring_must_wake(&s->channel->tx)) {
        s->stats.doorbells_rung++;
        atomic_store_explicit(&s->rang, true, memory_order_relaxed);
        piso__bell_ring(s->channel->bell);
    }
}

/* can_be_provoked: whether a peer can make this side send such messages, without limit. */
static bool can_be_provoked(piso__frame_type type) {
    return type == PISO__FRAME_REPLY || type == PISO__FRAME_ERROR || type == PISO__FRAME_ATTACHED ||
           type == PISO__FRAME_REFUSED || type == PISO__FRAME_RETIRED || type == PISO__FRAME_RELEASE ||
           type == PISO__FRAME_END_LEASES;
}

/* overtakes: whether the message skips the queue. The peer's own queue may wait for such a message, so queued
 * behind others that wait for the peer it would never arrive. It has no order relative to other messages of
 * this side. */
static bool overtakes(piso__frame_type type) {
    return type == PISO__FRAME_ATTACHED || type == PISO__FRAME_REFUSED;
}

/* put: appends a message to the queue. The head tells whether the queue waits for room in the ring only: for a
 * descriptor, the peer's acknowledgement makes room, and that comes as a message. */
static void put(piso_session *s, piso__queued *message, bool first) {
    if (first) {
        message->next = s->queue_head;
        s->queue_head = message;
        if (!message->next)
            s->queue_tail = &message->next;
    } else {
        *s->queue_tail = message;
        s->queue_tail = &message->next;
    }
    bool waits_for_peer = s->queue_head->segment && s->attach_credit == 0;
    atomic_store_explicit(&s->has_queue, !waits_for_peer, memory_order_relaxed);
}

/* enqueue: keeps a message for later, with a segment whose descriptor is sent first, or NULL. */
static int enqueue(piso_session *s, const piso__ring_part *parts, int count, piso_segment *segment, uint32_t id,
                   piso__frame_type type) {
    bool is_answer = can_be_provoked(type);
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    piso__queued *message = malloc(sizeof *message + size);
    if (!message)
        return -ENOMEM;
    message->next = NULL;
    message->segment = segment ? piso_segment_ref(segment) : NULL;
    message->id = id;
    message->size = size;
    message->is_answer = is_answer;
    if (is_answer)
        s->queued_answers += size;
    uint8_t *to = message->data;
    for (int i = 0; i < count; i++) {
        if (parts[i].size)
            memcpy(to, parts[i].data, parts[i].size);
        to += parts[i].size;
    }
    put(s, message, overtakes(type));
    s->stats.queued++;
    return 0;
}

/* send_descriptor: -EAGAIN when as many as allowed are under way. */
static int send_descriptor(piso_session *s, const piso_segment *segment, uint32_t id) {
    if (s->attach_credit == 0)
        return -EAGAIN;
    piso__attachment packet = {.id = id, .size = segment->size};
    /* does not wait: a peer may acknowledge what it leaves in the socket */
    int fd = atomic_load(&segment->fd), r = piso__send_fds(s->channel->socket_fd, &packet, sizeof packet, &fd, 1);
    if (r == -ETOOMANYREFS && s->attach_credit < PISO__ATTACH_CREDIT)
        r = -EAGAIN; /* until the peer has taken packets out */
    if (r == 0) {
        s->attach_credit--;
        if (id < s->given_capacity && s->given[id].segment == segment) /* not given up in the meantime */
            s->given[id].sent = true;
    }
    return r;
}

/* send_queued: sends one queued message. 0, -EAGAIN when there is no room, or an error that ends the session. */
static int send_queued(piso_session *s, piso__queued *message) {
    if (message->segment) {
        int r = send_descriptor(s, message->segment, message->id);
        if (r < 0)
            return r;
        message->segment = piso_segment_unref(message->segment);
    }
    piso__ring_part part = {message->data, message->size};
    return piso__ring_send(&s->channel->tx, &part, 1);
}

void piso__session_flush_queue(piso_session *s) {
    bool sent = false, waits_for_peer = false;
    while (s->queue_head) {
        piso__queued *message = s->queue_head;
        int r = send_queued(s, message);
        waits_for_peer = r == -EAGAIN && message->segment;
        if (r < 0 && r != -EAGAIN)
            piso__session_fail(s, r == PISO_EPROTO ? piso__session_protocol_error(s, IMPOSSIBLE_CURSOR) : r);
        if (r < 0)
            break;
        sent = true;
        if (message->is_answer)
            s->queued_answers -= message->size;
        s->queue_head = message->next;
        if (!s->queue_head)
            s->queue_tail = &s->queue_head;
        s->stats.queued--;
        free(message);
    }
    /* for a descriptor, the peer's acknowledgement makes room, and that comes as a message */
    atomic_store_explicit(&s->has_queue, s->queue_head && !waits_for_peer, memory_order_relaxed);
    if (sent)
        wake_peer(s);
}

/* send: sends without waking the peer. */
static int send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body, size_t size) {
    uint8_t header[PISO__HEADER_MAX];
    piso__ring_part parts[3] = {{header, piso__frame_encode(frame, header)}};
    int count = 1;
    if (frame->nspans) /* the struct is the encoding (frame.h) */
        parts[count++] = (piso__ring_part){spans, frame->nspans * sizeof *spans};
    if (size)
        parts[count++] = (piso__ring_part){body, size};
    if (PISO__UNLIKELY(s->queue_head != NULL))
        piso__session_flush_queue(s);
    piso__frame_type type = (piso__frame_type)frame->type;
    int r = s->queue_head && !overtakes(type) ? -EAGAIN : piso__ring_send(&s->channel->tx, parts, count);
    if (r == -EAGAIN) {
        if (can_be_provoked(type) && s->queued_answers > PISO__MAX_ANSWERS)
            piso__session_fail(s, piso__session_protocol_error(s, "it left more than 256 MiB of replies unread"));
        return enqueue(s, parts, count, NULL, 0, type);
    }
    if (r == PISO_EPROTO)
        piso__session_fail(s, piso__session_protocol_error(s, IMPOSSIBLE_CURSOR));
    return r;
}

int piso__session_send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body,
                       size_t size) {
    int r = send(s, frame, spans, body, size);
    if (r == 0)
        wake_peer(s);
    return r;
}

int piso__session_send_quietly(piso_session *s, const piso__frame *frame, const void *body, size_t size) {
    return send(s, frame, NULL, body, size);
}

int piso__session_send_attach(piso_session *s, piso_segment *segment, uint32_t id) {
    piso__frame frame = {.type = PISO__FRAME_ATTACH, .method = id};
    uint8_t header[PISO__FRAME_SIZE];
    piso__frame_encode(&frame, header);
    piso__ring_part part = {header, sizeof header};
    if (PISO__UNLIKELY(s->queue_head != NULL))
        piso__session_flush_queue(s);
    /* check room first: a descriptor without its frame would be taken for the next one */
    int r = s->queue_head ? -EAGAIN : piso__ring_room(&s->channel->tx, sizeof header);
    if (r == PISO_EPROTO)
        piso__session_fail(s, piso__session_protocol_error(s, IMPOSSIBLE_CURSOR));
    if (r == 0)
        r = send_descriptor(s, segment, id);
    if (r == -EAGAIN)
        return enqueue(s, &part, 1, segment, id, PISO__FRAME_ATTACH);
    return r < 0 ? r : piso__session_send(s, &frame, NULL, NULL, 0);
}

/* ---- the end ---- */

void piso__session_fail(piso_session *s, int error) {
    int working = 0;
    if (!atomic_compare_exchange_strong(&s->state, &working, error))
        return;
    atomic_store_explicit(&s->attention, true, memory_order_release);
    piso__channel_ring_self(s->channel);
    if (error != PISO_EDIED) {
        piso__frame frame = {.type = PISO__FRAME_GOODBYE};
        piso__session_send(s, &frame, NULL, NULL, 0);
    }
}
