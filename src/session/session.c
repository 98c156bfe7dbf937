/* session.c - creates and ends sessions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/structs.h"
#include "os/cgroup.h"
#include "session/backlog.h"
#include "session/descriptors.h"
#include "session/leases.h"
#include "session/segments.h"
#include "session/send.h"
#include "supervisor/request.h"

#define CHILD_DESCRIPTORS 512       /* how many a child may have before its table must grow */
#define SLICE_NS          100000000 /* of a wait for the handshake */

static piso_session *session_new(void) {
    piso_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->references = 1;
    s->fork_generation = piso__fork_generation();
    s->epoll_fd = -1;
    s->queue_tail = &s->queue_head;
    s->backlog_tail = &s->backlog_head;
    s->early_tail = &s->early_head;
    s->call_limit = s->accepts = PISO__MAX_OPEN_REQUESTS;
    s->earliest_deadline = PISO_NO_DEADLINE;
    s->processors = 2;
    s->strict = piso__memory_is_strict();
    s->attach_credit = PISO__ATTACH_CREDIT;
    pthread_mutex_init(&s->lock, NULL);
    piso__slots_init(&s->calls);
    piso__slots_init(&s->leases);
    return s;
}

static void session_free(piso_session *s) {
    if (s->process)
        piso__process_on_end(s->process, -1, -1);
    piso__channel_close(s->channel);
    piso__process_unref(s->process);
    piso__session_drop_segments(s);
    piso__share_unref(s->share);
    while (s->queue_head) {
        piso__queued *message = s->queue_head;
        s->queue_head = message->next;
        piso_segment_unref(message->segment);
        free(message);
    }
    while (s->early_head) {
        piso__early *early = s->early_head;
        s->early_head = early->next;
        free(early);
    }
    while (piso__backlog_take_any(s))
        ;
    piso__slots_fini(&s->calls);
    piso__slots_fini(&s->leases);
    free(s->released);
    free(s->expired);
    free(s->open_requests);
    piso__session_free_names(s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

piso_session *piso_session_ref(piso_session *s) {
    atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
    return s;
}

piso_session *piso_session_unref(piso_session *s) {
    if (!s || atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (piso__session_forked(s)) {
        if (pthread_mutex_trylock(&s->lock) != 0)
            return NULL; /* the fork came in the middle of a change: the copy cannot be freed */
        piso__session_unlock(s);
    }
    piso_session_close(s);
    session_free(s);
    return NULL;
}

static void unref_session(piso_session **s) {
    *s = piso_session_unref(*s);
}

/* watch: makes the descriptor for event loops: the channel's bells, and a source that reports the peer's end:
 * the end of its process if we know it, else the socket's hang-up. */
static int watch(piso_session *s) {
    s->epoll_fd = s->channel->wait_fd;
    int r = 0;
    if (s->process)
        piso__process_on_end(s->process, s->epoll_fd, s->channel->beacons.ended);
    else
        r = piso__epoll_add_hangup(s->epoll_fd, s->channel->socket_fd, 0);
    atomic_store(&s->processors, (uint32_t)piso__cpu_count());
    s->cpu_checked_ns = piso_now_ns();
    return r;
}

/* arena_size: chooses the arena's size. The child can fill each direction's memory, whatever is sent, so the
 * size is the limit. A block of the whole limit fits. */
static uint64_t arena_size(const piso_spawn *spawn, uint64_t limit) {
    uint64_t size = spawn->arena_size ? spawn->arena_size : PISO__ARENA_DEFAULT_SIZE;
    return limit && limit < size ? limit : spawn->arena_size;
}

/* request_limit: returns how many requests of the child are answered at once. */
static uint32_t request_limit(const piso_spawn *spawn) {
    uint32_t limit = spawn->max_requests ? spawn->max_requests : PISO__DEFAULT_REQUESTS;
    return limit < PISO__MAX_OPEN_REQUESTS ? limit : PISO__MAX_OPEN_REQUESTS;
}

/* spawn_session: starts a session from a complete request. */
static int spawn_session(const piso_spawn *spawn, piso_session **ret_session) {
    piso__cleanup(unref_session) piso_session *s = session_new();
    if (!s)
        return -ENOMEM;
    piso__autoclose int child_fd = -1;
    s->shared_limit = spawn->sandbox && spawn->sandbox->limits ? spawn->sandbox->limits->shared_memory : 0;
    uint64_t size = arena_size(spawn, s->shared_limit);
    s->accepts = request_limit(spawn);
    s->event_limit = PISO__MAX_WAITING;
    int r = piso__channel_create(spawn->name, size, s->accepts, &s->channel, &child_fd);
    if (r == 0)
        r = piso__process_spawn(spawn, child_fd, &s->process);
    if (r == 0)
        r = watch(s);
    if (r < 0) {
        if (s->process)
            piso_process_kill(s->process, 9);
        return r;
    }
    *ret_session = piso__steal_pointer(&s);
    return 0;
}

int piso_session_spawn(const piso_spawn *spawn, piso_session **ret_session) {
    piso__request request;
    int r = piso__request_init(&request, spawn);
    if (r < 0)
        return r;
    r = spawn_session(&request.spawn, ret_session);
    piso__request_report(&request);
    return r;
}

/* call_limit: returns how many calls of ours the peer answers at once and our tables can hold. */
static uint32_t call_limit(const piso_session *s) {
    uint32_t limit = s->channel->peer_accepts;
    return limit < PISO__MAX_OPEN_REQUESTS ? limit : PISO__MAX_OPEN_REQUESTS;
}

/* accept_child: 0; -EAGAIN when the child has not answered; PISO_EDIED when it hung up. In that case the
 * session fails only once the process has ended, which follows at once: its last words are known by then. */
static int accept_child(piso_session *s) {
    /* read before the socket, so that an answer sent just before the end is not missed */
    bool ended = piso__process_ended(s->process);
    piso__session_lock(s);
    int r = atomic_load(&s->state);
    if (r == 0 && !s->handshaken)
        r = piso__channel_accept(s->channel);
    if (r == PISO_EPROTO)
        piso__session_protocol_error(s, "its handshake is malformed");
    if (r == -EAGAIN && ended)
        r = PISO_EDIED;
    if (r == 0) {
        s->handshaken = true;
        s->call_limit = call_limit(s);
    } else if (r == PISO_EPROTO || r == PISO_EOLDER || r == PISO_ENEWER || ended)
        piso__session_fail(s, r);
    piso__session_unlock(s);
    return r;
}

/* await_child: waits until the child sends something or, when it cannot any more, has ended. The socket reports
 * the end as well, unless a process that the child left behind keeps it open: hence the slices. */
static int await_child(piso_session *s, bool may_speak, int64_t timeout_ns) {
    piso_exit status;
    if (!may_speak)
        return piso_process_wait(s->process, timeout_ns, &status);
    piso__session_lock(s);
    int fd = s->channel->socket_fd;
    s->fd_users++;
    piso__session_unlock(s);
    int r = piso__poll_in(&fd, 1, timeout_ns);
    piso__session_lock(s);
    s->fd_users--;
    piso__session_hang_up(s);
    piso__session_unlock(s);
    return r;
}

int piso_session_handshake(piso_session *s, int64_t timeout_ns) {
    int r = piso__session_check(s);
    if (r < 0 || !s->process)
        return r;
    int64_t now = piso_now_ns(), end = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    while ((r = accept_child(s)) == -EAGAIN || (r == PISO_EDIED && piso__session_check(s) == 0)) {
        int64_t left = end - piso_now_ns();
        if (left <= 0)
            return -ETIMEDOUT;
        r = await_child(s, r == -EAGAIN, left < SLICE_NS ? left : SLICE_NS);
        if (r < 0)
            return r;
    }
    return r;
}

int piso_session_attach(int channel_fd, piso_session **ret_session) {
    piso__cleanup(unref_session) piso_session *s = session_new();
    if (!s)
        return -ENOMEM;
    int r = piso__channel_attach(channel_fd, s->accepts, &s->channel);
    if (r < 0)
        return r;
    s->call_limit = call_limit(s);
    s->may_share = s->keeps_none = true; /* the host is trusted, and there is nobody else to send it on to */
    piso__fd_reserve(s->channel->socket_fd, CHILD_DESCRIPTORS);
    r = watch(s);
    if (r == 0)
        r = piso__watch_host(s->channel->socket_fd);
    if (r < 0)
        return r;
    *ret_session = piso__steal_pointer(&s);
    return 0;
}

int piso_session_pair(size_t arena_size, piso_session **ret_host, piso_session **ret_child) {
    piso__cleanup(unref_session) piso_session *host = session_new(), *child = session_new();
    if (!host || !child)
        return -ENOMEM;
    piso__autoclose int child_fd = -1;
    int r = piso__channel_create("pair", arena_size, host->accepts, &host->channel, &child_fd);
    if (r == 0)
        r = piso__channel_attach(child_fd, child->accepts, &child->channel);
    if (r < 0)
        return r;
    piso__fd_steal(&child_fd);
    r = piso__channel_accept(host->channel);
    if (r == 0)
        r = watch(host);
    if (r == 0)
        r = watch(child);
    if (r < 0)
        return r;
    child->may_share = child->keeps_none = true;
    *ret_host = piso__steal_pointer(&host);
    *ret_child = piso__steal_pointer(&child);
    return 0;
}

const char *piso_session_fault(const piso_session *s) {
    return piso__session_check(s) == PISO_EPROTO ? atomic_load(&s->fault) : NULL;
}

void piso_session_reject(piso_session *s, const char *fault) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    if (!s->rejected[0]) { /* never changed once a thread may read it */
        snprintf(s->rejected, sizeof s->rejected, "%s", fault);
        piso__session_protocol_error(s, s->rejected);
    }
    piso__session_fail(s, PISO_EPROTO);
    piso__session_unlock(s);
}

uint64_t piso_session_arena_size(const piso_session *s) {
    return s->channel->arena_size;
}

void piso_session_close(piso_session *s) {
    if (!s || s->epoll_fd < 0 || piso__session_forked(s)) /* half made, or not ours */
        return;
    piso__session_lock(s);
    piso__session_flush_releases(s);
    piso__session_fail(s, PISO_ECLOSED);
    piso__session_unlock(s);
}

int piso_session_disconnect(piso_session *s, int64_t timeout_ns) {
    int r = piso__session_check(s);
    if (r == 0 || r == PISO_EFORKED)
        return r == 0 ? -EBUSY : r;
    piso__session_lock(s);
    s->disconnected = true;
    piso__session_hang_up(s);
    piso__session_unlock(s);
    r = piso__word_wait(&s->hung_up, 0, timeout_ns);
    return r == -EINTR ? 0 : r;
}

void piso_session_keep_fd(piso_session *s, bool keep) {
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    s->fd_users += keep ? 1 : UINT32_MAX;
    piso__session_hang_up(s);
    piso__session_unlock(s);
}

int piso_session_state(const piso_session *s) {
    return piso__session_check(s);
}

piso_process *piso_session_process(piso_session *s) {
    return s->process;
}

void piso_session_progress(piso_session *s, uint64_t *ret_sent, uint64_t *ret_taken) {
    *ret_sent = *ret_taken = 0;
    if (piso__session_forked(s))
        return;
    piso__session_lock(s);
    *ret_sent = s->channel->tx.position;
    *ret_taken = atomic_load(&s->channel->tx.shared->consumed);
    piso__session_unlock(s);
}

int piso_session_stats(piso_session *s, piso_stats *ret_stats) {
    piso_stats stats = {0};
    if (!piso__session_forked(s)) {
        piso__session_lock(s);
        stats = s->stats;
        stats.yields = atomic_load_explicit(&s->yields, memory_order_relaxed);
        stats.leases_given = s->leases.live;
        stats.arena_live = piso__arena_live(s->channel->arena);
        stats.arena_committed = piso__arena_committed(s->channel->arena);
        piso__session_unlock(s);
    }
    return piso__struct_out(ret_stats, &stats, sizeof stats);
}
