/* monitor.c - the thread that waits for all children of this process (process.h, rules 2 to 4). */
#include <signal.h>
#include <unistd.h>

#include "os/os.h"
#include "supervisor/internal.h"

/* What epoll tells us is the process; the lowest bit says that it is its stderr pipe. */
#define PIPE_BIT 1u
#define BATCH 16

static struct {
    pthread_mutex_t lock;
    bool started;
    uint32_t fork_generation;
    int epoll_fd;
} monitor = {.lock = PTHREAD_MUTEX_INITIALIZER, .epoll_fd = -1};

/* A forked process starts over: the thread is not there, and the lock may have been held by it. */
static void forget_after_fork(void) {
    static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    monitor.lock = fresh;
    monitor.started = false;
    monitor.epoll_fd = piso__fd_close(monitor.epoll_fd);
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(NULL, NULL, forget_after_fork);
}

/* keep_tail: appends to the ring of last words. */
static void keep_tail(piso_process *p, const char *data, size_t size) {
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < size; i++)
        p->tail[p->tail_written++ % PISO__STDERR_TAIL] = data[i];
    pthread_mutex_unlock(&p->lock);
}

static void close_pipe(piso_process *p) {
    if (p->stderr_fd >= 0)
        piso__epoll_remove(monitor.epoll_fd, p->stderr_fd);
    p->stderr_fd = piso__fd_close(p->stderr_fd);
}

/* drain: takes what is in the pipe, at most `limit` bytes, so that a flood does not keep others waiting. */
static void drain(piso_process *p, size_t limit) {
    char buffer[4096];
    while (p->stderr_fd >= 0 && limit > 0) {
        ssize_t n = piso__read(p->stderr_fd, buffer, sizeof buffer);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            close_pipe(p);
            return;
        }
        keep_tail(p, buffer, (size_t)n);
        if (p->echo)
            piso__write_if_ready(STDERR_FILENO, buffer, (size_t)n);
        limit -= (size_t)n < limit ? (size_t)n : limit;
    }
}

/* end: the process has ended: its last words, its status, its group, then everybody is told. */
static bool end(piso_process *p) {
    piso_exit status = {.known = false, .code = -1};
    pthread_mutex_lock(&p->lock);
    int r = piso__reap(p->pidfd, &status);
    if (r != 0) {
        /* The group outlives its leader: grandchildren end with it. Its number cannot belong to another group
         * while they live, and when none does there is nobody to hit. */
        piso__kill_group(p->pid, SIGKILL);
        p->status = status;
    }
    pthread_mutex_unlock(&p->lock);
    if (r == 0)
        return false;
    drain(p, 1 << 20);
    close_pipe(p);
    piso__epoll_remove(monitor.epoll_fd, p->pidfd);
    p->pidfd = piso__fd_close(p->pidfd);
    atomic_store(&p->ended, true);
    piso__event_signal(p->exit_fd);
    return true;
}

static void *monitor_main(void *argument) {
    int epoll_fd = (int)(intptr_t)argument;
    for (;;) {
        uint64_t data[BATCH];
        piso_process *ended = NULL;
        int n = piso__epoll_wait(epoll_fd, data, BATCH);
        for (int i = 0; i < n; i++) {
            piso_process *p = (piso_process *)(uintptr_t)(data[i] & ~(uint64_t)PIPE_BIT);
            if (atomic_load(&p->ended))
                continue; /* both its descriptors were in this batch */
            if (data[i] & PIPE_BIT) {
                drain(p, 1 << 16);
            } else if (end(p)) {
                p->next_ended = ended;
                ended = p;
            }
        }
        while (ended) { /* only now: a later event of the batch may name the same process */
            piso_process *p = ended;
            ended = p->next_ended;
            piso__process_unref(p);
        }
    }
    return NULL;
}

static int start(void) {
    if (monitor.started)
        return 0;
    int fd = piso__epoll_create();
    if (fd < 0)
        return fd;
    int r = piso__thread_start("piso-monitor", monitor_main, (void *)(intptr_t)fd);
    if (r < 0) {
        piso__fd_close(fd);
        return r;
    }
    monitor.epoll_fd = fd;
    monitor.started = true;
    return 0;
}

int piso__monitor_watch(piso_process *p) {
    pthread_mutex_lock(&monitor.lock);
    int r = start();
    int epoll_fd = monitor.epoll_fd;
    pthread_mutex_unlock(&monitor.lock);
    if (r < 0)
        return r;
    piso__process_ref(p);
    r = piso__epoll_add(epoll_fd, p->stderr_fd, (uint64_t)(uintptr_t)p | PIPE_BIT);
    if (r == 0)
        r = piso__epoll_add(epoll_fd, p->pidfd, (uint64_t)(uintptr_t)p);
    if (r < 0) {
        piso__epoll_remove(epoll_fd, p->stderr_fd);
        piso__process_unref(p);
    }
    return r;
}
