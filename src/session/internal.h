/* internal.h - the session object, shared by the files of this layer.
 *
 * One mutex guards everything private. It is held for a few hundred nanoseconds, never while a payload is copied;
 * longer only where the arena grows or is trimmed. What is read without it is atomic: the state, the position that
 * the next message is polled at, and the counts of those who poll and sleep. */
#ifndef PISO_SESSION_INTERNAL_H
#define PISO_SESSION_INTERNAL_H

#include <pthread.h>

#include "base/slots.h"
#include "channel/channel.h"
#include "memory/segment.h"
#include "os/os.h"
#include "supervisor/process.h"
#include "wire/frame.h"

#define PISO__MAX_NAMES         65536u
#define PISO__MAX_OPEN_REQUESTS (1u << 20)
#define PISO__DEFAULT_REQUESTS  4096u
#define PISO__WAITING_ID        (UINT64_MAX - 1) /* of a call in the backlog */
#define PISO__OVER_ID           UINT64_MAX       /* of one that is over, which has not been told */
#define PISO__RELEASE_BATCH     64
#define PISO__ATTACH_CREDIT     64u                 /* descriptors in the socket at once */
#define PISO__MAX_ANSWERS       ((size_t)256 << 20) /* bytes of answers that a peer may leave in our memory */
#define PISO__MAX_WAITING       ((size_t)1 << 30)   /* bytes of its messages that wait to be looked at */

/* A message that found the ring full; they leave in order. */
typedef struct piso__queued {
    struct piso__queued *next;
    piso_segment *segment; /* its descriptor goes into the socket first; NULL: none, or it has */
    uint32_t number;
    size_t size;
    bool is_answer;
    uint8_t data[];
} piso__queued;

typedef struct piso__name {
    char *text;
    size_t size;
} piso__name;

typedef struct piso__waiting_call piso__waiting_call;
typedef struct piso__blocked piso__blocked;

/* What a number that we gave stands for. */
typedef struct piso__given {
    piso_segment *segment;        /* a reference; NULL: the number is free */
    bool sent, attached, retired; /* sent: the descriptor */
} piso__given;

/* What a number of the peer's stands for. */
typedef struct piso__taken {
    piso_segment *segment; /* a reference */
    int refused;           /* why there is none although the number was given: a negative code */
    uint32_t in_hand;      /* events that name it and have not ended */
    bool retiring; /* the peer does not use it any more, but we do, and may have no descriptor to give it back with */
} piso__taken;

/* The numbers of one segment, ours and the peer's; 0: none. */
typedef struct piso__numbers {
    uint32_t given, taken;
} piso__numbers;

struct piso_session {
    _Atomic uint32_t references;
    uint32_t fork_generation;
    pthread_mutex_t lock;
    piso__channel *channel;
    piso_process *process; /* NULL in the child and in pairs */
    _Atomic int epoll_fd;  /* the channel's; -1 once disconnected */
    bool handshaken, peer_gone, quiet;
    bool disconnected; /* it has ended, and its descriptors go with the last who uses one of them */
    uint32_t fd_users; /* besides those who sleep */
    _Atomic uint32_t hung_up;
    _Atomic int state;
    const char *_Atomic fault; /* what the peer did wrong */
    char rejected[200];        /* the text of that, if it was found in a body */

    /* sending */
    piso__queued *queue_head, **queue_tail;
    _Atomic bool has_queue; /* something in it that only lacks room in the ring; for a look without the lock */
    size_t queued_answers;  /* bytes of answers in the queue */
    uint8_t releases[PISO__RELEASE_BATCH * PISO__RELEASE_SIZE];
    uint32_t release_count;
    uint64_t release_bytes;
    bool announced; /* a message that is long to write, and has not been sent yet */

    /* leases (leases.c): ours by id, and the cookies of those that have ended; ids of the peer's to be ended */
    piso__slots leases;
    void **released;
    size_t released_count, released_capacity;
    uint64_t ended[PISO__RELEASE_BATCH];
    uint32_t ended_count;

    /* our calls and the peer's; the backlog (backlog.c) */
    piso__slots calls;
    uint32_t call_limit; /* how many of ours the peer answers at once */
    uint32_t accepts;    /* how many of the peer's we answer at once */
    piso__waiting_call *backlog_head, **backlog_tail;
    size_t backlog_count;
    int64_t earliest_deadline; /* of our calls, or earlier */
    piso_call **expired;       /* those that are over, whatever ended them */
    size_t expired_count, expired_capacity;
    uint64_t *open_requests; /* by index of the peer's id; 0: not open */
    uint32_t open_capacity;

    /* what events hold that have not ended: a peer can have large ones made by small messages, again and again */
    _Atomic size_t event_bytes;
    size_t event_limit; /* beyond, no further one; 0: the peer is trusted */

    /* names: ours by hash, the peer's by number */
    piso__name *names, *peer_names;
    uint32_t name_count, peer_name_count, peer_name_capacity;
    uint32_t *name_buckets, bucket_count; /* number + 1, 0: empty */

    /* shared segments (segments.c) */
    piso__given *given;     /* by our number */
    piso__taken *taken;     /* by the peer's number */
    piso__numbers *numbers; /* by index of the segment */
    uint32_t given_capacity, taken_capacity, number_capacity, lowest_free, attach_credit;
    bool may_share;
    bool keeps_none; /* of what it takes: the descriptor is closed once it is mapped, so none are counted */
    bool strict;     /* what is not there may not be touched: piso__memory_is_strict */
    uint32_t given_count, taken_count;
    uint32_t retired_count;             /* of those given: taken back, and the peer has not answered */
    piso__share *share;                 /* what the peer has brought; NULL: nothing yet */
    uint64_t taken_bytes, shared_limit; /* of the peer's segments; 0: no limit */

    /* waiting (wait.c) */
    _Atomic uint64_t poll_position; /* copy of the consumer's position */
    _Atomic bool attention;         /* piso_session_next has something to say that is not in the ring */
    _Atomic bool rang;              /* the peer had to be woken, and has sent nothing since */
    _Atomic uint32_t pollers, sleepers;
    _Atomic uint32_t misses[2];  /* waits in a row that polled in vain, or did not poll; [1]: after it rang */
    _Atomic uint32_t processors; /* that this process may use */
    _Atomic int64_t cpu_checked_ns;
    _Atomic uint64_t yields;
    _Atomic uint32_t meetings; /* waits in a row that ended with an answer on this processor, which was yielded */
    int64_t slept_ns;          /* when somebody last began to sleep; by the lock */
    _Atomic int64_t left_ns;   /* when this process last left a processor because of that */

    /* threads that wait for answers (blocking.c) */
    piso__blocked *blocked, *reader;
    int64_t reader_until_ns; /* when the reader wakes by itself */
    piso_event_handler handler;
    void *handler_context;

    piso_stats stats;
    uint8_t scratch[PISO__RING_MESSAGE_MAX]; /* where messages are taken to */
};

/* piso__session_forked: whether this process only has a copy: no mapping, and a lock that may be held for ever. */
static inline bool piso__session_forked(const piso_session *s) {
    return PISO__UNLIKELY(s->fork_generation != piso__fork_generation());
}

/* piso__session_check: 0, or why nothing can be sent: the state, or PISO_EFORKED. */
static inline int piso__session_check(const piso_session *s) {
    return piso__session_forked(s) ? PISO_EFORKED : atomic_load_explicit(&s->state, memory_order_acquire);
}

static inline void piso__session_lock(piso_session *s) {
    pthread_mutex_lock(&s->lock);
}

static inline void piso__session_unlock(piso_session *s) {
    pthread_mutex_unlock(&s->lock);
}

/* piso__span_in_segment: whether it names a shared segment, and no arena. */
static inline bool piso__span_in_segment(const piso_span *span) {
    return (span->segment & ~PISO_SPAN_RETURNED) != 0;
}

/* piso__session_is_open: whether the peer waits for an answer to its request. Needs the lock. */
static inline bool piso__session_is_open(const piso_session *s, uint64_t request) {
    uint32_t index = (uint32_t)request - 1; /* 0 becomes a huge index */
    return index < s->open_capacity && s->open_requests[index] == request;
}

/* piso__forgotten: stands in the table for a call that nobody waits for, until its reply comes: the peer still has
 * the request open, so its id must not be used again. */
extern piso_call piso__forgotten; /* bodies.c */

/* The files of this layer stand in the order in which they use each other: each knows those above it. All of these
 * functions need the lock unless it says otherwise. */

/* send.c: messages, and how a session ends. */

/* piso__session_send: one message, through the ring or behind what waits for it. 0, -ENOMEM, PISO_EPROTO. */
int piso__session_send(piso_session *s, const piso__frame *frame, const piso_span *spans, const void *body,
                       size_t size);
/* piso__session_send_quietly: the same, but a peer that sleeps is not woken: it sees the message when something else wakes
 * it. */
int piso__session_send_quietly(piso_session *s, const piso__frame *frame, const void *body, size_t size);
/* piso__session_send_attach: announces a segment: its descriptor, then the frame, or both behind what waits. */
int piso__session_send_attach(piso_session *s, piso_segment *segment, uint32_t number);
/* piso__session_flush_queue: sends what waits, as far as there is room. */
void piso__session_flush_queue(piso_session *s);
/* piso__session_announce: tells a peer that polls whether a message is coming that takes long to write. */
void piso__session_announce(piso_session *s, bool coming);
/* piso__session_wrong: PISO_EPROTO, with what the peer did wrong (static text; the first one stays). */
int piso__session_wrong(piso_session *s, const char *fault);
/* piso__session_fail: the session ends with this code; the first one stays. The peer and all who sleep here are
 * told. */
void piso__session_fail(piso_session *s, int error);

/* names.c */

/* piso__session_define: the peer named a number. */
int piso__session_define(piso_session *s, uint32_t number, const uint8_t *text, size_t size);
void piso__session_free_names(piso_session *s);

/* segments.c */

/* piso__session_name_spans: the writer's spans as they go on the wire. */
int piso__session_name_spans(piso_session *s, const piso_writer *w, piso_span *ret_spans);
/* piso__session_find_segment: what a span of the peer's lies in, checked: 0 and a new reference; why there is none if it
 * was refused; PISO_EPROTO. */
int piso__session_find_segment(piso_session *s, const piso_span *span, piso_segment **ret_segment, bool *ret_ours);
/* piso__session_let_go: an event that has such a reference ends; `span` is the event's. */
void piso__session_let_go(piso_session *s, const piso_span *span, const piso_segment *segment);
/* The peer's frames about segments. */
int piso__session_attached_by_peer(piso_session *s, uint32_t number);
int piso__session_attach_done(piso_session *s, uint32_t number, bool refused);
/* piso__session_retired_by_peer: *ret_segment is NULL if it was refused. */
int piso__session_retired_by_peer(piso_session *s, uint32_t number, piso_segment **ret_segment);
int piso__session_retire_done(piso_session *s, uint32_t number);
/* piso__session_retire_unused: piso_session_retire for those segments of a writer that nobody has used since it was
 * written: their end came before the peer knew them. */
void piso__session_retire_unused(piso_session *s, const piso_writer *w);
/* piso__session_drop_segments: the session has ended: its references go. */
void piso__session_drop_segments(piso_session *s);
/* piso__writer_drop_segments: needs no lock. */
void piso__writer_drop_segments(piso_writer *w);

/* releases.c */

/* piso__session_give_back: a span of an event is no longer used: the peer's goes back to it, in a batch; it may also
 * lie in our own arena. */
void piso__session_give_back(piso_session *s, const piso_span *span);
/* piso__session_queue_lease: notes that a lease of the peer's is no longer needed. */
void piso__session_queue_lease(piso_session *s, uint64_t id);
/* piso__session_flush_releases: sends the batches, if there are any. */
void piso__session_flush_releases(piso_session *s);

/* leases.c */

/* piso__session_release_lease: the cookie waits for piso_session_next. False when the id is not known (any more). */
bool piso__session_release_lease(piso_session *s, uint64_t id);
/* piso__session_discard_leases: those of a writer that is not sent. */
void piso__session_discard_leases(piso_session *s, const piso_writer *w);
/* piso__session_leases_ended: the peer's frame. */
int piso__session_leases_ended(piso_session *s, const uint8_t *ids, size_t size);
/* piso__session_next_released, _next_lease: the event for a lease that has ended; for one that ends with the session.
 * 1, or 0 when there is none. */
int piso__session_next_released(piso_session *s, piso_event *event);
int piso__session_next_lease(piso_session *s, piso_event *event);

/* buffers.c */

/* piso__session_alloc: piso_session_alloc, with the lock. */
int piso__session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data);
/* piso__session_discard: piso_session_discard_spans, with the lock. */
void piso__session_discard(piso_session *s, piso_writer *w);
/* piso__session_check_span: 0 or PISO_EPROTO: a span that came with a message lies in the peer's arena; or it is one
 * that the peer had from us, and is ours again. */
int piso__session_check_span(piso_session *s, const piso_span *span);
/* piso__session_lend_spans: the message of this writer has been sent: its buffers are the peer's. */
void piso__session_lend_spans(piso_session *s, const piso_writer *w);

/* bodies.c */

/* piso__session_begin: what can be done of a message without the lock, then the lock, if it returns 0. `frame` gets what is
 * known of the body. */
int piso__session_begin(piso_session *s, piso__frame *frame, piso_writer *w);
/* piso__session_send_body: the frame with the writer's body and spans. */
int piso__session_send_body(piso_session *s, const piso__frame *frame, const piso_writer *w);
/* piso__session_end: unlocks what piso__session_begin locked. When the message has been sent the spans are the peer's; else the
 * writer becomes what it was. Returns `sent`. */
int piso__session_end(piso_session *s, const piso__frame *frame, piso_writer *w, int sent);

/* piso__session_may_call: whether the peer answers one more call at the moment. */
static inline bool piso__session_may_call(const piso_session *s) {
    return s->calls.live < s->call_limit;
}
/* piso__session_send_call: sends a call, whose id is then known; the writer keeps what it holds. `call` may be NULL, where
 * no answer is wanted, and piso__forgotten. 0 or a negative code. */
int piso__session_send_call(piso_session *s, piso_call *call, piso__frame *frame, int64_t deadline_ns,
                            const piso_writer *w);

/* backlog.c */

/* piso__backlog_add: keeps a call until the peer answers one more; takes what the writer holds. 0 or -ENOMEM. */
int piso__backlog_add(piso_session *s, piso_call *call, const piso__frame *frame, int64_t deadline_ns, piso_writer *w);
/* piso__backlog_flush: sends what the peer answers by now. */
void piso__backlog_flush(piso_session *s);
/* piso__backlog_forget: nobody waits for the answer of this call, which is in the backlog; `drop`: it is not sent. */
void piso__backlog_forget(piso_session *s, piso_call *call, bool drop);
/* piso__backlog_expire: takes out the calls whose deadline has passed, and hands each to `expire`; the earliest deadline
 * of the others. */
int64_t piso__backlog_expire(piso_session *s, int64_t now, void (*expire)(piso_session *, piso_call *));
/* piso__backlog_take_any: takes out a call that somebody waits for; NULL when there is none left. Sends nothing. */
piso_call *piso__backlog_take_any(piso_session *s);

/* wait.c */

/* piso__session_silence: forgets rings of the doorbells. */
void piso__session_silence(piso_session *s);
/* piso__session_hang_up: closes the descriptors if the session is disconnected and nobody waits for one of them. */
void piso__session_hang_up(piso_session *s);

#endif
