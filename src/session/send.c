/* send.c - messages into the ring, in order, without ever blocking: what finds it full waits in private memory. */
#include <errno.h>
#include <string.h>

#include "session/internal.h"

#define IMPOSSIBLE_CURSOR "it says that it has read what was never written"

static void wake_peer(piso_session *s) {
    if (piso__ring_must_wake(&s->channel->tx)) {
        s->stats.doorbells_rung++;
        atomic_store_explicit(&s->channel->tx.shared->bell_cpu, (uint32_t)(piso__cpu_current() + 1),
                              memory_order_relaxed);
        piso__event_signal(s->channel->tx_bell);
    }
}

/* enqueue: keeps a message for later. */
static int enqueue(piso_session *s, const piso__ring_part *parts, int count, bool is_answer) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    piso__queued *message = malloc(sizeof *message + size);
    if (!message)
        return -ENOMEM;
    message->next = NULL;
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
    *s->queue_tail = message;
    s->queue_tail = &message->next;
    atomic_store_explicit(&s->has_queue, true, memory_order_relaxed);
    s->stats.queued++;
    return 0;
}

void piso__session_flush_queue(piso_session *s) {
    bool sent = false;
    while (s->queue_head) {
        piso__queued *message = s->queue_head;
        piso__ring_part part = {message->data, message->size};
        int r = piso__ring_send(&s->channel->tx, &part, 1);
        if (r == PISO_EPROTO)
            piso__session_fail(s, piso__session_wrong(s, IMPOSSIBLE_CURSOR));
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
    atomic_store_explicit(&s->has_queue, s->queue_head != NULL, memory_order_relaxed);
    if (sent)
        wake_peer(s);
}

int piso__session_send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body,
                       size_t size) {
    uint8_t header[PISO__FRAME_SIZE];
    piso__frame_encode(frame, header);
    piso__ring_part parts[3] = {{header, sizeof header}};
    int count = 1;
    if (frame->nspans) /* the struct is the encoding (frame.h) */
        parts[count++] = (piso__ring_part){spans, frame->nspans * sizeof *spans};
    if (size)
        parts[count++] = (piso__ring_part){body, size};
    if (PISO__UNLIKELY(s->queue_head != NULL))
        piso__session_flush_queue(s);
    int r = s->queue_head ? -EAGAIN : piso__ring_send(&s->channel->tx, parts, count);
    if (r == -EAGAIN) {
        bool is_answer = frame->type == PISO__FRAME_REPLY || frame->type == PISO__FRAME_ERROR;
        if (is_answer && s->queued_answers > PISO__MAX_ANSWERS)
            piso__session_fail(s, piso__session_wrong(s, "it asks and asks, and takes no answers"));
        return enqueue(s, parts, count, is_answer);
    }
    if (r == PISO_EPROTO)
        piso__session_fail(s, piso__session_wrong(s, IMPOSSIBLE_CURSOR));
    if (r == 0)
        wake_peer(s);
    return r;
}
