/* monitor.c - the thread that watches all children of this process (process.h, rules 2 to 4).
 *
 * epoll identifies a process or a zygote by its id in a table, not by its address. So an event of an object
 * that was removed since, in the same batch or by another thread, finds nothing.
 *
 * A child of a zygote is in the list of ending processes from the moment its pidfd is readable until the zygote
 * has reported how it ended, or has taken too long. Only this thread uses the list. Time is counted in ticks:
 * when the host and its zygote were both stopped, the host has missed all ticks but one. */
#include "supervisor/monitor.h"

#include <signal.h>
#include <unistd.h>

#include "base/slots.h"
#include "os/os.h"
#include "supervisor/child.h"
#include "supervisor/zygote.h"

/* Bits that tell the source of an event which is not the end of a process. No index of a table is that large. */
#define ZYGOTE_BIT ((uint64_t)1 << 29)
#define OUT_BIT    ((uint64_t)1 << 30)
#define ERR_BIT    ((uint64_t)1 << 31)
#define BATCH      16
#define FAIR_SHARE (64 << 10) /* bytes read from one pipe before the others get their turn */
#define LAST_WORDS (1 << 20)  /* the capacity of a pipe for an unprivileged process, at most */
#define REST_NS    5000000    /* pause when only outputs that write too much are ready */
#define TICK_MS    50
#define PATIENCE   20 /* in ticks; a running zygote needs less than one */

/* The lock guards the rest. epoll_fd does not change once the thread runs. */
static struct {
    bool started;
    int epoll_fd;
    piso__slots watched, zygotes; /* a reference to each */
} monitor = {.epoll_fd = -1};

/* start_over_in_child: the thread does not exist here, and what it watched is the parent's. */
static void start_over_in_child(void) {
    if (!monitor.started)
        return;
    void *p;
    while ((p = piso__slots_take_any(&monitor.watched))) {
        piso__process_close_fds(p);
        piso__process_unref(p);
    }
    while ((p = piso__slots_take_any(&monitor.zygotes))) {
        piso__zygote_close_fd(p);
        piso__zygote_release(p);
    }
    piso__slots_fini(&monitor.watched);
    piso__slots_fini(&monitor.zygotes);
    monitor.epoll_fd = piso__fd_close(monitor.epoll_fd);
    monitor.started = false;
}

PISO__STATIC_LOCK(lock, PISO__PLACE_MONITOR, .in_child = start_over_in_child);

/* find: returns a reference to the process with this id, or NULL. */
static piso_process *find(uint64_t id) {
    piso__lock_take(&lock);
    piso_process *p = piso__slots_get(&monitor.watched, id);
    if (p)
        piso__process_ref(p);
    piso__lock_give(&lock);
    return p;
}

static void forget(uint64_t id) {
    piso__lock_take(&lock);
    piso_process *p = piso__slots_remove(&monitor.watched, id);
    piso__lock_give(&lock);
    piso__process_unref(p);
}

static piso_zygote *find_zygote(uint64_t id) {
    piso__lock_take(&lock);
    piso_zygote *z = piso__slots_get(&monitor.zygotes, id);
    if (z)
        piso__zygote_hold(z);
    piso__lock_give(&lock);
    return z;
}

static void forget_zygote(uint64_t id) {
    piso__lock_take(&lock);
    piso_zygote *z = piso__slots_remove(&monitor.zygotes, id);
    piso__lock_give(&lock);
    piso__zygote_release(z);
}

/* ---- the end of a process ---- */

/* stop_watching: closes a descriptor of a process. Removes it from the epoll first, because a forked copy would
 * keep it in the set. */
static void stop_watching(int *fd) {
    int closed = piso__fd_steal(fd); /* first: see piso__process_close_fds */
    if (closed >= 0)
        piso__epoll_remove(monitor.epoll_fd, closed);
    piso__fd_close(closed);
}

/* drain: false when some output was left that must wait. */
static bool drain(piso_process *p, int index, size_t limit, bool last) {
    if (p->outputs[index].fd < 0)
        return true;
    piso__drained drained = piso__output_drain(p, index, limit, last);
    if (drained == PISO__DRAINED_END)
        stop_watching(&p->outputs[index].fd);
    return drained != PISO__DRAINED_LATER;
}

/* end_group: kills the processes that have left the process group, and reports the end when they have died, or
 * after some milliseconds. */
static void *end_group(void *argument) {
    piso_process *p = argument;
    p->group = piso__group_end(p->group);
    piso__process_report_end(p);
    piso__process_unref(p);
    return NULL;
}

/* finish: called when its status is recorded, if it is known, and will not change: reads its last words, then
 * reports the end. */
static void finish(piso_process *p) {
    piso__fd_close(piso__fd_steal(&p->last_pidfd));
    for (int i = 0; i < 2; i++) {
        drain(p, i, LAST_WORDS, true);
        stop_watching(&p->outputs[i].fd);
    }
    if (!p->status.known || p->status.signal == SIGKILL)
        p->memory_exceeded = piso__group_exceeded(p->group);
    uint64_t id = p->id;
    if (!p->group) {
        piso__process_report_end(p);
    } else {
        piso__group_kill(p->group);
        piso__process_ref(p);
        if (piso__thread_start("piso-group", end_group, p) < 0)
            end_group(p);
    }
    forget(id);
}

/* A list, linked by next_ending. The table has the references. */
static piso_process *ending;

/* settle: takes a process out of the list and finishes it. */
static void settle(piso_process **at, const piso_exit *reported) {
    piso_process *p = *at;
    *at = p->next_ending;
    pthread_mutex_lock(&p->lock);
    piso__process_record_exit(p, reported);
    pthread_mutex_unlock(&p->lock);
    finish(p);
}

/* end: called when the pidfd is readable. The group is killed first, while its unreaped leader still keeps the
 * group's number from being reused. */
static void end(piso_process *p) {
    pthread_mutex_lock(&p->lock);
    piso__kill_group(p->pidfd, p->pid, SIGKILL);
    int r = piso__process_check_end(p);
    pthread_mutex_unlock(&p->lock);
    if (r != 0)
        piso__epoll_remove(monitor.epoll_fd, p->last_pidfd);
    if (r == 1) {
        finish(p);
    } else if (r < 0) {
        p->next_ending = ending;
        ending = p;
    }
}

/* tick: finishes processes whose zygote has taken too long. */
static void tick(void) {
    for (piso_process **at = &ending; *at;)
        if (++(*at)->ticks > PATIENCE)
            settle(at, NULL);
        else
            at = &(*at)->next_ending;
}

/* ---- reports of zygotes ---- */

/* reaped: handles a zygote's report. A late one finds nobody. */
static void reaped(piso_zygote *z, pid_t pid, const piso_exit *status) {
    for (piso_process **at = &ending; *at; at = &(*at)->next_ending)
        if ((*at)->parent == piso__zygote_as_parent(z) && (*at)->pid == pid) {
            settle(at, status->known ? status : NULL);
            return;
        }
}

/* read_zygote: reads everything that the zygote has sent. Once the zygote has ended nobody else can report its
 * children's exits. */
static void read_zygote(piso_zygote *z, uint64_t id) {
    pid_t pid;
    piso_exit status;
    int r;
    while ((r = piso__zygote_receive(z, &pid, &status)) > 0)
        reaped(z, pid, &status);
    if (r == 0)
        return;
    piso__epoll_remove(monitor.epoll_fd, piso__zygote_socket(z));
    piso__zygote_end(z, r);
    for (piso_process **at = &ending; *at;)
        if ((*at)->parent == piso__zygote_as_parent(z))
            settle(at, NULL);
        else
            at = &(*at)->next_ending;
    forget_zygote(id);
}

/* ---- the thread ---- */

/* handle: handles an event. False when it was about an output that must wait. */
static bool handle(uint64_t data) {
    uint64_t id = data & ~(ZYGOTE_BIT | OUT_BIT | ERR_BIT);
    if (data & ZYGOTE_BIT) {
        piso_zygote *z = find_zygote(id);
        if (z)
            read_zygote(z, id);
        piso__zygote_release(z);
        return true;
    }
    piso__cleanup(piso__process_unrefp) piso_process *p = find(id);
    if (p && id != data)
        return drain(p, data & OUT_BIT ? PISO__OUT : PISO__ERR, FAIR_SHARE, false);
    if (p)
        end(p);
    return true;
}

static void *monitor_main(void *argument) {
    int epoll_fd = (int)(intptr_t)argument;
    int64_t ticked_ns = 0;
    for (;;) {
        uint64_t data[BATCH];
        int n = piso__epoll_wait(epoll_fd, data, BATCH, ending ? TICK_MS : -1);
        bool rest = n > 0;
        for (int i = 0; i < n; i++)
            rest &= !handle(data[i]);
        if (rest) /* outputs that must wait stay readable */
            piso__poll_in(NULL, 0, REST_NS);
        int64_t now = piso_now_ns();
        if (now - ticked_ns >= TICK_MS * INT64_C(1000000)) {
            ticked_ns = now;
            tick();
        }
    }
    return NULL;
}

/* start: starts the thread if it does not run yet. Needs the lock. */
static int start(void) {
    if (monitor.started)
        return 0;
    int fd = piso__epoll_create();
    if (fd < 0)
        return fd;
    monitor.epoll_fd = fd;
    ending = NULL; /* left by the process that forked this one */
    piso__slots_init(&monitor.watched);
    piso__slots_init(&monitor.zygotes);
    int r = piso__thread_start("piso-monitor", monitor_main, (void *)(intptr_t)fd);
    if (r < 0)
        monitor.epoll_fd = piso__fd_close(fd);
    monitor.started = r == 0;
    return r;
}

int piso__monitor_watch(piso_process *p) {
    piso__lock_take(&lock);
    int r = start();
    uint64_t id = r == 0 ? piso__slots_add(&monitor.watched, p) : 0;
    if (id)
        piso__process_ref(p);
    piso__lock_give(&lock);
    if (!id)
        return r < 0 ? r : -ENOMEM;
    p->id = id;
    r = piso__epoll_add(monitor.epoll_fd, p->outputs[PISO__ERR].fd, id | ERR_BIT);
    if (r == 0 && p->outputs[PISO__OUT].fd >= 0)
        r = piso__epoll_add(monitor.epoll_fd, p->outputs[PISO__OUT].fd, id | OUT_BIT);
    if (r == 0)
        r = piso__epoll_add(monitor.epoll_fd, p->pidfd, id);
    if (r == 0)
        return 0;
    forget(id); /* an event that is under way finds nothing */
    for (int i = 0; i < 2; i++)
        if (p->outputs[i].fd >= 0)
            piso__epoll_remove(monitor.epoll_fd, p->outputs[i].fd);
    return r;
}

int piso__monitor_watch_zygote(piso_zygote *z) {
    piso__lock_take(&lock);
    int r = start();
    uint64_t id = r == 0 ? piso__slots_add(&monitor.zygotes, z) : 0;
    if (id)
        piso__zygote_hold(z);
    piso__lock_give(&lock);
    if (!id)
        return r < 0 ? r : -ENOMEM;
    r = piso__epoll_add(monitor.epoll_fd, piso__zygote_socket(z), id | ZYGOTE_BIT);
    if (r < 0)
        forget_zygote(id);
    return r;
}
