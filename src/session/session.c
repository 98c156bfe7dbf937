/* session.c - making and ending a session. */
#include <errno.h>
#include <string.h>

#include "session/internal.h"

#define FIRST_SPIN_BUDGET_NS 50000

static piso_session *session_new(void) {
    piso_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->references = 1;
    s->fork_generation = piso__fork_generation();
    s->epoll_fd = -1;
    s->queue_tail = &s->queue_head;
    s->earliest_deadline = PISO_NO_DEADLINE;
    s->spin_budget_ns = FIRST_SPIN_BUDGET_NS;
    s->spin_allowed = true;
    pthread_mutex_init(&s->lock, NULL);
    piso__slots_init(&s->calls);
    return s;
}

static void session_free(piso_session *s) {
    piso__channel_close(s->channel);
    piso__process_unref(s->process);
    piso__fd_close(s->epoll_fd);
    while (s->queue_head) {
        piso__queued *message = s->queue_head;
        s->queue_head = message->next;
        free(message);
    }
    piso__slots_fini(&s->calls);
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
    piso_session_close(s);
    session_free(s);
    return NULL;
}

static void unref_session(piso_session **s) {
    *s = piso_session_unref(*s);
}

/* watch: the descriptor that loops wait for: the doorbell, and what tells of the peer's end (or -1). */
static int watch(piso_session *s, int end_fd) {
    if ((s->epoll_fd = piso__epoll_create()) < 0)
        return s->epoll_fd;
    int r = piso__epoll_add(s->epoll_fd, s->channel->rx_bell, 0);
    if (r == 0 && end_fd >= 0)
        r = piso__epoll_add(s->epoll_fd, end_fd, 0);
    atomic_store(&s->spin_allowed, piso__cpu_count() > 1);
    s->cpu_checked_ns = piso_now_ns();
    return r;
}

int piso_session_spawn(const piso_spawn *spawn, piso_session **ret_session) {
    if (!spawn || !spawn->argv || !spawn->argv[0] || !spawn->envp || !spawn->name)
        return -EINVAL;
    piso__cleanup(unref_session) piso_session *s = session_new();
    if (!s)
        return -ENOMEM;
    piso__autoclose int child_fd = -1;
    int r = piso__channel_create(spawn->name, spawn->arena_size, &s->channel, &child_fd);
    if (r == 0)
        r = piso__process_spawn(spawn, child_fd, &s->process);
    if (r == 0)
        r = watch(s, piso__process_exit_fd(s->process));
    if (r < 0) {
        if (s->process)
            piso_process_kill(s->process, 9);
        return r;
    }
    *ret_session = piso__steal_pointer(&s);
    return 0;
}

int piso_session_handshake(piso_session *s, int64_t timeout_ns) {
    int64_t end = timeout_ns < 0 ? PISO_NO_DEADLINE : piso_now_ns() + timeout_ns;
    for (;;) {
        int r = piso__session_check(s);
        if (r < 0 || s->handshaken)
            return r;
        /* looked at before the socket, so that an answer sent just before the end is not missed */
        bool ended = s->process && piso__process_ended(s->process);
        piso__session_lock(s);
        r = piso__channel_accept(s->channel);
        s->handshaken = r == 0;
        if (r == PISO_EPROTO || (r == -EAGAIN && ended))
            piso__session_fail(s, r == PISO_EPROTO ? PISO_EPROTO : PISO_EDIED);
        piso__session_unlock(s);
        if (r == 0 || r == PISO_EPROTO)
            return r;
        if (ended)
            return PISO_EDIED;
        int64_t left = end == PISO_NO_DEADLINE ? -1 : end - piso_now_ns();
        if (end != PISO_NO_DEADLINE && left <= 0)
            return -ETIMEDOUT;
        /* a hang-up of the socket comes with the end of the process: that one has the last words */
        int fds[2] = {r == PISO_EDIED ? -1 : s->channel->socket_fd, s->process ? piso__process_exit_fd(s->process) : -1};
        r = piso__poll_in(fds, 2, left);
        if (r < 0)
            return r;
    }
}

int piso_session_attach(int channel_fd, piso_session **ret_session) {
    piso__cleanup(unref_session) piso_session *s = session_new();
    if (!s)
        return -ENOMEM;
    int r = piso__channel_attach(channel_fd, &s->channel);
    if (r < 0)
        return r;
    s->watches_socket = s->handshaken = true;
    r = watch(s, s->channel->socket_fd);
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
    int r = piso__channel_create("pair", arena_size, &host->channel, &child_fd);
    if (r == 0)
        r = piso__channel_attach(child_fd, &child->channel);
    if (r < 0)
        return r;
    piso__fd_steal(&child_fd);
    r = piso__channel_accept(host->channel);
    if (r == 0)
        r = watch(host, -1);
    if (r == 0)
        r = watch(child, -1);
    if (r < 0)
        return r;
    host->handshaken = child->handshaken = true;
    *ret_host = piso__steal_pointer(&host);
    *ret_child = piso__steal_pointer(&child);
    return 0;
}

void piso__session_fail(piso_session *s, int error) {
    int working = 0;
    atomic_compare_exchange_strong(&s->state, &working, error);
    atomic_store_explicit(&s->attention, true, memory_order_release);
}

void piso_session_close(piso_session *s) {
    if (!s->channel || s->epoll_fd < 0 || piso__session_check(s) != 0)
        return;
    piso__session_lock(s);
    piso__session_flush_releases(s);
    piso__frame frame = {.type = PISO__FRAME_GOODBYE};
    piso__session_send(s, &frame, NULL, NULL, 0);
    piso__session_fail(s, PISO_ECLOSED);
    piso__session_unlock(s);
    piso__event_signal(s->channel->rx_bell); /* whoever waits here sees it */
}

int piso_session_state(const piso_session *s) {
    return piso__session_check(s);
}

piso_process *piso_session_process(piso_session *s) {
    return s->process;
}

void piso_session_stats(piso_session *s, piso_stats *ret_stats) {
    piso__session_lock(s);
    *ret_stats = s->stats;
    ret_stats->arena_live = piso__arena_live(s->channel->arena);
    ret_stats->arena_committed = piso__arena_committed(s->channel->arena);
    piso__session_unlock(s);
}
