/* monitor.c - the thread that waits for all children of this process (process.h, rules 2 to 4).
 *
 * epoll names a process by its id in a table, not by its address: an event of a process that has been forgotten
 * since, in the same batch or by another thread, finds nothing. */
#include <signal.h>
#include <unistd.h>

#include "base/slots.h"
#include "os/os.h"
#include "supervisor/internal.h"

/* Say that an event is of a pipe, not of the pidfd. No index of the table gets this far. */
#define OUT_BIT    ((uint64_t)1 << 30)
#define ERR_BIT    ((uint64_t)1 << 31)
#define BATCH      16
#define FAIR_SHARE (64 << 10) /* bytes read from one pipe before others get their turn */
#define LAST_WORDS (1 << 20)  /* the most that a pipe can hold for an unprivileged process */
#define REST_NS    5000000    /* when nothing but outputs that write too much is there */

/* The lock guards the rest and is held for a few instructions; epoll_fd stays once the thread runs. */
static struct {
    pthread_mutex_t lock;
    bool started;
    int epoll_fd;
    piso__slots watched; /* a reference each */
} monitor = {.lock = PTHREAD_MUTEX_INITIALIZER, .epoll_fd = -1};

static void before_fork(void) {
    pthread_mutex_lock(&monitor.lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&monitor.lock);
}

/* after_fork_in_child: the thread is not there, and what it watched is not ours: start over when needed. */
static void after_fork_in_child(void) {
    piso_process *p;
    while ((p = piso__slots_take_any(&monitor.watched)))
        piso__process_unref(p);
    piso__slots_fini(&monitor.watched);
    monitor.epoll_fd = piso__fd_close(monitor.epoll_fd);
    monitor.started = false;
    pthread_mutex_unlock(&monitor.lock);
}

static void prepare(void) {
    piso__slots_init(&monitor.watched);
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

/* find: a reference to the process with this id, or NULL. */
static piso_process *find(uint64_t id) {
    pthread_mutex_lock(&monitor.lock);
    piso_process *p = piso__slots_get(&monitor.watched, id);
    if (p)
        piso__process_ref(p);
    pthread_mutex_unlock(&monitor.lock);
    return p;
}

static void forget(uint64_t id) {
    pthread_mutex_lock(&monitor.lock);
    piso_process *p = piso__slots_remove(&monitor.watched, id);
    pthread_mutex_unlock(&monitor.lock);
    piso__process_unref(p);
}

/* stop_watching: closes a descriptor of a process. Removed first: a forked copy would keep it in the set. */
static void stop_watching(int *fd) {
    if (*fd >= 0)
        piso__epoll_remove(monitor.epoll_fd, *fd);
    *fd = piso__fd_close(*fd);
}

/* drain: false when there was something that has to wait. */
static bool drain(piso_process *p, int index, size_t limit, bool last) {
    if (p->outputs[index].fd < 0)
        return true;
    piso__drained drained = piso__output_drain(p, index, limit, last);
    if (drained == PISO__DRAINED_END)
        stop_watching(&p->outputs[index].fd);
    return drained != PISO__DRAINED_LATER;
}

/* end: the pidfd is readable: last words, status, then everybody is told. False when it has not ended after all.
 * The group goes first, while its unreaped leader still holds the number. */
static bool end(piso_process *p) {
    pthread_mutex_lock(&p->lock);
    piso__kill_group(p->pidfd, p->pid, SIGKILL);
    bool ended = piso__process_reap(p);
    if (ended) {
        stop_watching(&p->pidfd);
        for (int i = 0; i < 2; i++) {
            drain(p, i, LAST_WORDS, true);
            stop_watching(&p->outputs[i].fd);
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (ended) {
        if (!p->status.known || p->status.signal == SIGKILL)
            p->memory_exceeded = piso__group_exceeded(p->group);
        p->group = piso__group_end(p->group); /* whatever has left the process group */
        atomic_store_explicit(&p->ended, true, memory_order_release);
        piso__event_signal(p->exit_fd);
        piso__event_signal(p->output_fd);
    }
    return ended;
}

/* handle: false when it was about an output that has to wait. */
static bool handle(uint64_t data) {
    uint64_t id = data & ~(OUT_BIT | ERR_BIT);
    piso__cleanup(piso__process_unrefp) piso_process *p = find(id);
    if (!p)
        return true;
    bool done = true;
    if (id != data) {
        pthread_mutex_lock(&p->lock);
        done = drain(p, data & OUT_BIT ? PISO__OUT : PISO__ERR, FAIR_SHARE, false);
        pthread_mutex_unlock(&p->lock);
    } else if (end(p)) {
        forget(id);
    }
    return done;
}

static void *monitor_main(void *argument) {
    int epoll_fd = (int)(intptr_t)argument;
    for (;;) {
        uint64_t data[BATCH];
        int n = piso__epoll_wait(epoll_fd, data, BATCH);
        bool rest = n > 0;
        for (int i = 0; i < n; i++)
            rest &= !handle(data[i]);
        if (rest) /* outputs that have to wait stay readable */
            piso__poll_in(NULL, 0, REST_NS);
    }
    return NULL;
}

/* start: the thread, if it does not run yet. Needs the monitor's lock. */
static int start(void) {
    if (monitor.started)
        return 0;
    int fd = piso__epoll_create();
    if (fd < 0)
        return fd;
    monitor.epoll_fd = fd;
    int r = piso__thread_start("piso-monitor", monitor_main, (void *)(intptr_t)fd);
    if (r < 0)
        monitor.epoll_fd = piso__fd_close(fd);
    monitor.started = r == 0;
    return r;
}

int piso__monitor_watch(piso_process *p) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    pthread_mutex_lock(&monitor.lock);
    int r = start();
    uint64_t id = r == 0 ? piso__slots_add(&monitor.watched, p) : 0;
    if (id)
        piso__process_ref(p);
    pthread_mutex_unlock(&monitor.lock);
    if (!id)
        return r < 0 ? r : -ENOMEM;
    pthread_mutex_lock(&p->lock);
    r = piso__epoll_add(monitor.epoll_fd, p->outputs[PISO__ERR].fd, id | ERR_BIT);
    if (r == 0 && p->outputs[PISO__OUT].fd >= 0)
        r = piso__epoll_add(monitor.epoll_fd, p->outputs[PISO__OUT].fd, id | OUT_BIT);
    if (r == 0)
        r = piso__epoll_add(monitor.epoll_fd, p->pidfd, id);
    for (int i = 0; r < 0 && i < 2; i++)
        stop_watching(&p->outputs[i].fd);
    pthread_mutex_unlock(&p->lock);
    if (r < 0)
        forget(id);
    return r;
}
