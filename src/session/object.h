/* object.h - the session object, which the files of this layer share.
 *
 * One mutex guards everything private. It is held for a few hundred nanoseconds and never while a payload is
 * copied; longer only where the arena grows or is trimmed. Fields that are read without it are atomic: the
 * state, the position at which the next message is polled, and the counts of threads that poll and sleep. */
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
#define PISO__OVER_ID           UINT64_MAX       /* of a call that is over, which was not reported yet */
#define PISO__RELEASE_BATCH     64
#define PISO__ATTACH_CREDIT     64u                 /* descriptors in the socket at once */
#define PISO__MAX_ANSWERS       ((size_t)256 << 20) /* bytes of unread replies that a peer may leave in our memory */
#define PISO__MAX_WAITING       ((size_t)1 << 30)   /* bytes of the peer's messages that wait to be read */

/* A message that found the ring full. They are sent in order. */
typedef struct piso__queued {
    struct piso__queued *next;
    piso_segment *segment; /* its descriptor is sent first; NULL: there is none, or it was sent */
    uint32_t id;
    size_t size;
    bool is_answer;
    uint8_t data[];
} piso__queued;

/* A message that was read before its turn (events/intake.c). */
typedef struct piso__early {
    struct piso__early *next;
    size_t size;
    uint8_t data[];
} piso__early;

/* A request of the peer that has not been answered. */
typedef struct piso__open_request {
    uint64_t id;         /* 0: it is not open */
    int64_t deadline_ns; /* PISO_NO_DEADLINE if there is none */
    bool cancelled;
} piso__open_request;

typedef struct piso__name {
    char *text;
    size_t size;
} piso__name;

typedef struct piso__waiting_call piso__waiting_call;
typedef struct piso__blocked piso__blocked;

/* The segment of an id that we gave. */
typedef struct piso__given {
    piso_segment *segment;        /* a reference; NULL: the id is free */
    bool sent, attached, retired; /* sent: the descriptor was */
} piso__given;

/* The segment of an id that the peer gave. */
typedef struct piso__taken {
    piso_segment *segment; /* a reference */
    int refused;           /* a negative code: why we have no segment although the id was given */
    uint32_t open_events;  /* unfinished events that name it */
    /* the peer has retired the id, but we still use the segment, and may have no descriptor to send it back
     * with */
    bool retiring;
} piso__taken;

/* The ids of one segment, the one we gave and the one the peer gave. 0: none. */
typedef struct piso__segment_ids {
    uint32_t given, taken;
} piso__segment_ids;

struct piso_session {
    _Atomic uint32_t references;
    uint32_t fork_generation;
    pthread_mutex_t lock;
    piso__channel *channel;
    piso_process *process; /* NULL in the child and for pairs */
    _Atomic int epoll_fd;  /* of the channel; -1 once disconnected */
    bool handshaken, peer_gone, quiet;
    bool disconnected; /* it has ended, and the last user of its descriptors closes them */
    uint32_t fd_users; /* not counting sleepers */
    _Atomic uint32_t hung_up;
    _Atomic int state;
    const char *_Atomic fault; /* what the peer did wrong */
    char rejected[200];        /* the text of `fault`, if it came from piso_session_reject */

    /* sending */
    piso__queued *queue_head, **queue_tail;
    _Atomic bool has_queue; /* a queued message waits only for room in the ring; read without the lock */
    size_t queued_answers;  /* bytes of replies in the queue */
    uint8_t releases[PISO__RELEASE_BATCH * PISO__RELEASE_SIZE];
    uint32_t release_count;
    uint64_t release_bytes;
    bool announced; /* that a message which takes long to write is coming */

    /* leases (leases.c): ours by id, the cookies of those that have ended, and the ids of the peer's to be
     * ended */
    piso__slots leases;
    void **released;
    size_t released_count, released_capacity;
    uint64_t ended[PISO__RELEASE_BATCH];
    uint32_t ended_count;

    /* our calls, the peer's, and the backlog (backlog.c) */
    piso__slots calls;
    uint32_t call_limit; /* how many calls of ours the peer answers at once */
    uint32_t accepts;    /* how many calls of the peer we answer at once */
    piso__waiting_call *backlog_head, **backlog_tail;
    size_t backlog_count;
    int64_t earliest_deadline; /* a lower bound of our calls' deadlines */
    piso_call **expired;       /* calls that are over, for whatever reason */
    size_t expired_count, expired_capacity;
    piso__open_request *open_requests; /* by index of the peer's id */
    uint32_t open_capacity;

    /* memory held by unfinished events; small messages can make large events, again and again */
    _Atomic size_t event_bytes;
    size_t event_limit; /* no further event is made beyond it; 0: the peer is trusted */

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
    bool keeps_none; /* the descriptor of a received segment is closed once it is mapped, so none are counted */
    bool strict;     /* holes must not be touched: piso__memory_is_strict */
    uint32_t given_count, taken_count;
    uint32_t retired_count;             /* ids that we have retired and the peer has not acknowledged */
    piso__share *share;                 /* counts the segments that the peer has sent; NULL: none yet */
    uint64_t taken_bytes, shared_limit; /* of segments from the peer; 0: no limit */

    /* messages that were read early, ahead of those in the ring (events/intake.c) */
    piso__early *early_head, **early_tail;
    size_t early_bytes;

    /* waiting (events/wait.c) */
    _Atomic uint64_t poll_position; /* copy of the consumer's position */
    _Atomic bool attention;         /* piso_session_next has something to report that is not in the ring */
    _Atomic bool rang;              /* the peer had to be woken, and has sent nothing since */
    _Atomic uint32_t pollers, sleepers;
    /* waits in a row that polled in vain or did not poll; [1]: after the peer was woken */
    _Atomic uint32_t misses[2];
    _Atomic uint32_t processors; /* how many this process may use */
    _Atomic int64_t cpu_checked_ns;
    _Atomic uint64_t yields;
    /* waits in a row that ended with a reply sent from this processor, which this side had yielded */
    _Atomic uint32_t colocated;
    int64_t slept_ns;            /* when a thread last began to sleep; guarded by the lock */
    _Atomic int64_t migrated_ns; /* when this process last migrated because of that */

    /* threads that wait for replies (events/blocking.c) */
    piso__blocked *blocked, *reader;
    int64_t reader_until_ns; /* when the reader wakes by itself */
    piso_event_handler handler;
    void *handler_context;

    piso_stats stats;
    uint8_t scratch[PISO__RING_MESSAGE_MAX]; /* incoming messages are copied here */
};

/* piso__session_forked: whether this process only has a copy of the session: no mapping, and possibly a lock
 * that stays locked. */
static inline bool piso__session_forked(const piso_session *s) {
    return PISO__UNLIKELY(s->fork_generation != piso__fork_generation());
}

/* piso__session_check: returns 0, or why nothing can be sent: the state, or PISO_EFORKED. */
static inline int piso__session_check(const piso_session *s) {
    return piso__session_forked(s) ? PISO_EFORKED : atomic_load_explicit(&s->state, memory_order_acquire);
}

static inline void piso__session_lock(piso_session *s) {
    pthread_mutex_lock(&s->lock);
}

static inline void piso__session_unlock(piso_session *s) {
    pthread_mutex_unlock(&s->lock);
}

/* piso__span_in_segment: whether the span refers to a shared segment and not to an arena. */
static inline bool piso__span_in_segment(const piso_span *span) {
    return (span->segment & ~PISO_SPAN_RETURNED) != 0;
}

/* piso__session_is_open: whether the peer waits for a reply to its request. Needs the lock. */
static inline bool piso__session_is_open(const piso_session *s, uint64_t request) {
    uint32_t index = (uint32_t)request - 1; /* 0 becomes a huge index, which is out of range */
    return index < s->open_capacity && s->open_requests[index].id == request;
}

/* The files of this layer are ordered: send, names, segments, releases, leases, buffers, bodies, backlog,
 * calls, descriptors, session; then events/intake, events/wait, events/receive, events/blocking. Each uses only those before it.
 * All functions in their headers need the lock unless the comment says otherwise. */

/* names.c */

/* piso__session_define: handles the peer's DEFINE, which gives a name an id. */
int piso__session_define(piso_session *s, uint32_t id, const uint8_t *text, size_t size);
void piso__session_free_names(piso_session *s);

#endif
