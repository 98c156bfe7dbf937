/* object.h - the session object, shared by the files of this layer.
 *
 * One mutex guards everything private. It is held for a few hundred nanoseconds, never while a payload is copied;
 * longer only where the arena grows or is trimmed. What is read without it is atomic: the state, the position that
 * the next message is polled at, and the counts of those who poll and sleep. */
#ifndef PISO_SESSION_OBJECT_H
#define PISO_SESSION_OBJECT_H

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
    uint32_t id;
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

/* What an id that we gave stands for. */
typedef struct piso__given {
    piso_segment *segment;        /* a reference; NULL: the id is free */
    bool sent, attached, retired; /* sent: the descriptor */
} piso__given;

/* What an id of the peer's stands for. */
typedef struct piso__taken {
    piso_segment *segment; /* a reference */
    int refused;           /* why there is none although the id was given: a negative code */
    uint32_t in_hand;      /* events that name it and have not ended */
    bool retiring; /* the peer does not use it any more, but we do, and may have no descriptor to give it back with */
} piso__taken;

/* The ids of one segment, ours and the peer's; 0: none. */
typedef struct piso__segment_ids {
    uint32_t given, taken;
} piso__segment_ids;

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

    /* names: ours by hash, the peer's by id */
    piso__name *names, *peer_names;
    uint32_t name_count, peer_name_count, peer_name_capacity;
    uint32_t *name_buckets, bucket_count; /* id + 1, 0: empty */

    /* shared segments (segments.c) */
    piso__given *given;     /* by our id */
    piso__taken *taken;     /* by the peer's id */
    piso__segment_ids *ids; /* by index of the segment */
    uint32_t given_capacity, taken_capacity, id_capacity, lowest_free, attach_credit;
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
    _Atomic uint32_t colocated;  /* waits in a row that ended with an answer on this processor, which was yielded */
    int64_t slept_ns;            /* when somebody last began to sleep; by the lock */
    _Atomic int64_t migrated_ns; /* when this process last left a processor because of that */

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

/* The files of this layer stand in this order: send, names, segments, releases, leases, buffers, bodies, backlog, calls, wait,
 * receive, session, blocking. Each uses those before it. All functions in their headers need the lock unless it says
 * otherwise. */

/* names.c */

/* piso__session_define: the peer named an id. */
int piso__session_define(piso_session *s, uint32_t id, const uint8_t *text, size_t size);
void piso__session_free_names(piso_session *s);

#endif
