/* process.c - see process.h: the object, and the public functions on a process. */
#include "os/os.h"
#include "supervisor/child.h"

static bool is_foreign(const piso_process *p) {
    return p->fork_generation != piso__fork_generation();
}

piso_process *piso__process_new(void) {
    piso_process *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->references = 1;
    p->fork_generation = piso__fork_generation();
    p->pidfd = p->last_pidfd = p->output_fd = p->end_epoll = p->end_beacon = -1;
    for (int i = 0; i < 2; i++)
        p->outputs[i].fd = p->outputs[i].echo_fd = -1;
    p->status.code = -1;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

piso_process *piso__process_ref(piso_process *p) {
    atomic_fetch_add(&p->references, 1);
    return p;
}

void piso__process_close_fds(piso_process *p) {
    piso__fd_close(piso__fd_steal(&p->pidfd));
    piso__fd_close(piso__fd_steal(&p->last_pidfd));
    for (int i = 0; i < 2; i++)
        piso__fd_close(piso__fd_steal(&p->outputs[i].fd));
}

piso_process *piso__process_unref(piso_process *p) {
    if (!p || atomic_fetch_sub(&p->references, 1) != 1)
        return NULL;
    /* in a forked process the descriptors may belong to something else by now, and the lock may stay locked */
    if (!is_foreign(p)) {
        piso__output_forget(p);
        piso__process_close_fds(p);
        pthread_mutex_destroy(&p->lock);
    }
    piso__group_end(p->group);
    piso__refusals_unref(p->refusals);
    if (p->parent)
        p->parent->unref(p->parent);
    free(p);
    return NULL;
}

int piso__process_check_end(piso_process *p) {
    int r = piso__reap(p->pidfd, &p->status);
    /* a child that is not ours, unless its parent has died and left it to us, reports its end only by the pidfd */
    bool ended = p->parent && r <= 0 ? piso__poll_in(&p->pidfd, 1, 0) > 0 : r != 0;
    if (!ended)
        return 0;
    p->last_pidfd = piso__fd_steal(&p->pidfd);
    if (!p->parent || r > 0)
        return 1;
    if (p->parent->ask_reap(p->parent, p->pid) == 0)
        return -EINPROGRESS;
    piso__process_record_exit(p, NULL);
    return 1;
}

void piso__process_record_exit(piso_process *p, const piso_exit *reported) {
    if (reported)
        p->status = *reported;
    else if (piso__reap(p->last_pidfd, &p->status) <= 0)
        piso__exit_of(p->last_pidfd, p->pid, &p->status); /* where the kernel does not report it, it stays unknown */
}

void piso__process_report_end(piso_process *p) {
    pthread_mutex_lock(&p->lock);
    atomic_store_explicit(&p->ended, 1, memory_order_release);
    if (p->end_epoll >= 0)
        piso__epoll_switch(p->end_epoll, p->end_beacon, true);
    pthread_mutex_unlock(&p->lock);
    piso__word_wake(&p->ended);
    piso__output_notify(p);
}

void piso__process_on_end(piso_process *p, int epoll_fd, int beacon_fd) {
    if (is_foreign(p))
        return;
    pthread_mutex_lock(&p->lock);
    p->end_epoll = epoll_fd;
    p->end_beacon = beacon_fd;
    if (epoll_fd >= 0 && piso__process_ended(p))
        piso__epoll_switch(epoll_fd, beacon_fd, true);
    pthread_mutex_unlock(&p->lock);
}

bool piso__process_ended(const piso_process *p) {
    return atomic_load_explicit(&p->ended, memory_order_acquire) != 0;
}

int piso_process_pid(const piso_process *p) {
    return is_foreign(p) ? PISO_EFORKED : p->pid;
}

uint64_t piso_process_memory_exceeded(const piso_process *p) {
    return is_foreign(p) || !piso__process_ended(p) ? 0 : p->memory_exceeded;
}

int64_t piso_process_refused(piso_process *p) {
    return is_foreign(p) || !p->refusals ? -ENOSYS : piso__refusals_total(p->refusals);
}

size_t piso_process_refusals(piso_process *p, piso_refusal *ret_kinds, size_t count) {
    return is_foreign(p) || !p->refusals ? 0 : piso__refusals_read(p->refusals, ret_kinds, count);
}

int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit) {
    if (is_foreign(p))
        return PISO_EFORKED;
    int r = piso__word_wait(&p->ended, 0, timeout_ns);
    if (r <= 0)
        return r;
    pthread_mutex_lock(&p->lock);
    *ret_exit = p->status;
    pthread_mutex_unlock(&p->lock);
    return 1;
}

int piso_process_kill(piso_process *p, int signal) {
    if (is_foreign(p))
        return PISO_EFORKED;
    pthread_mutex_lock(&p->lock);
    int r = p->pidfd < 0 ? -ESRCH : piso__kill_group(p->pidfd, p->pid, signal);
    pthread_mutex_unlock(&p->lock);
    return r;
}
