/* process.c - see process.h: the object, and what others may ask of a process. */
#include "os/os.h"
#include "supervisor/internal.h"
#include "supervisor/zygote.h"

static bool is_foreign(const piso_process *p) {
    return p->fork_generation != piso__fork_generation();
}

piso_process *piso__process_new(void) {
    piso_process *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->references = 1;
    p->fork_generation = piso__fork_generation();
    p->pidfd = p->exit_fd = p->output_fd = -1;
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

piso_process *piso__process_unref(piso_process *p) {
    if (!p || atomic_fetch_sub(&p->references, 1) != 1)
        return NULL;
    /* in a forked process the numbers may stand for something else by now, and the lock may be held for ever */
    if (!is_foreign(p)) {
        piso__fd_close(p->pidfd);
        for (int i = 0; i < 2; i++)
            piso__fd_close(p->outputs[i].fd);
        piso__fd_close(p->exit_fd);
        piso__fd_close(p->output_fd);
        pthread_mutex_destroy(&p->lock);
    }
    piso__group_end(p->group);
    piso_zygote_unref(p->zygote);
    free(p);
    return NULL;
}

bool piso__process_reap(piso_process *p) {
    int r = piso__reap(p->pidfd, &p->status);
    if (!p->zygote)
        return r != 0;
    /* not our child: only the readable pidfd tells that it has ended */
    if (piso__poll_in(&p->pidfd, 1, 0) <= 0)
        return false;
    if (piso__zygote_reap(p->zygote, p->pid, &p->status) < 0)
        piso__exit_of(p->pidfd, &p->status); /* without its zygote; where the kernel does not tell, it stays unknown */
    return true;
}

int piso__process_exit_fd(const piso_process *p) {
    return is_foreign(p) ? PISO_EFORKED : p->exit_fd;
}

bool piso__process_ended(const piso_process *p) {
    return atomic_load_explicit(&p->ended, memory_order_acquire);
}

int piso_process_pid(const piso_process *p) {
    return is_foreign(p) ? PISO_EFORKED : p->pid;
}

uint64_t piso_process_memory_exceeded(const piso_process *p) {
    return is_foreign(p) || !piso__process_ended(p) ? 0 : p->memory_exceeded;
}

int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit) {
    if (is_foreign(p))
        return PISO_EFORKED;
    if (!piso__process_ended(p)) {
        int r = piso__poll_in(&p->exit_fd, 1, timeout_ns);
        if (r <= 0)
            return r;
    }
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
