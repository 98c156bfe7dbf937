/* refusals.c - see refusals.h: the host's side. */
#include "seccomp/refusals.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/slots.h"
#include "os/fork.h"
#include "os/os.h"
#include "seccomp/filter.h"
#include "seccomp/tables.h"

#define BATCH   16
#define KINDS   32
#define REST_NS 1000000
#define ROOM    256 /* size for the kernel's structures, which may be larger than those of the headers */

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE (1UL << 0)
#endif

typedef enum state { WAITING, LISTENING, UNKNOWN } state;

/* The static lock guards everything except the program and its length. */
struct piso__refusals {
    uint32_t references;
    state state;
    int fd; /* the socket, then the listener; -1 */
    uint64_t id;
    int64_t total, rounds, rests_until_ns;
    bool asked;
    uint64_t first_question;
    size_t kind_count;
    struct kind {
        uint32_t number, arguments[2];
        int error;
        uint64_t count;
    } kinds[KINDS];
    int count;
    struct sock_filter program[];
};

_Atomic uint64_t piso__refusals_most = UINT64_C(1) << 30;

static struct {
    bool started;
    int epoll_fd;
    piso__slots watched; /* a reference to each */
} listener = {.epoll_fd = -1};

/* start_over_in_child: drops the listeners. A copy of a listener would keep processes waiting for an answer
 * after the host's end. */
static void start_over_in_child(void) {
    if (!listener.started)
        return;
    piso__refusals *r;
    while ((r = piso__slots_take_any(&listener.watched))) {
        r->fd = piso__fd_close(r->fd);
        r->state = UNKNOWN;
        if (--r->references == 0)
            free(r);
    }
    piso__slots_fini(&listener.watched);
    listener.epoll_fd = piso__fd_close(listener.epoll_fd);
    listener.started = false;
}

PISO__STATIC_LOCK(lock, PISO__PLACE_REFUSALS, .in_child = start_over_in_child);

/* ---- recording refusals ---- */

/* error_of: returns what the program answers to a call. */
static int error_of(const piso__refusals *r, const struct seccomp_data *data) {
    uint32_t a = 0, at = 0;
    for (;;) {
        const struct sock_filter *i = &r->program[at++];
        bool holds = false;
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            memcpy(&a, (const char *)data + i->k, sizeof a);
            continue;
        case BPF_LD | BPF_IMM:
            a = i->k;
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            continue;
        case BPF_JMP | BPF_JA:
            at += i->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            holds = a == i->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            holds = a >= i->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            holds = (a & i->k) != 0;
            break;
        default: /* the end of a process; the kernel's copy knows the process, so its answer may differ */
            return (i->k & SECCOMP_RET_ACTION) == SECCOMP_RET_USER_NOTIF ? (int)(i->k & SECCOMP_RET_DATA) : ENOSYS;
        }
        at += holds ? i->jt : i->jf;
    }
}

/* kind_of: returns the kind of a call, with those arguments that the rules test and that have few values. */
static struct kind kind_of(const struct seccomp_data *data) {
    struct kind k = {.number = (uint32_t)data->nr, .count = 1};
    const uint64_t *args = (const uint64_t *)data->args;
    switch (data->nr) {
    case SYS_ioctl:
    case SYS_fcntl:
        k.arguments[0] = (uint32_t)args[1];
        break;
    case SYS_socket:
    case SYS_socketpair:
        k.arguments[0] = (uint32_t)args[0];
        k.arguments[1] = (uint32_t)args[1] & 0xf;
        break;
    case SYS_setsockopt:
        k.arguments[0] = (uint32_t)args[1];
        k.arguments[1] = (uint32_t)args[2];
        break;
    case SYS_prctl:
    case SYS_unshare:
    case SYS_personality:
        k.arguments[0] = (uint32_t)args[0];
        break;
    default:;
    }
    return k;
}

/* note: records a refusal. Beyond KINDS different kinds it only counts. */
static void note(piso__refusals *r, const struct seccomp_data *data, int error) {
    struct kind k = kind_of(data);
    k.error = error;
    size_t i = 0;
    while (i < r->kind_count && (r->kinds[i].number != k.number || r->kinds[i].error != error ||
                                 memcmp(r->kinds[i].arguments, k.arguments, sizeof k.arguments) != 0))
        i++;
    r->total++;
    if (i < r->kind_count)
        r->kinds[i].count++;
    else if (i < KINDS)
        r->kinds[r->kind_count++] = k;
}

/* process_of: returns the process of a thread; 0: it is gone. */
static pid_t process_of(pid_t thread) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    const char *found = piso__read_text(path, text, sizeof text) ? strstr(text, "\nTgid:") : NULL;
    return found ? (pid_t)strtol(found + sizeof "\nTgid:" - 1, NULL, 10) : 0;
}

/* starts_threads: whether the C library makes this call to set up a thread before it runs. It then acts on a
 * thread other than the caller. */
static bool starts_threads(int number) {
    return number == SYS_sched_setaffinity || number == SYS_sched_setscheduler;
}

/* is_own_thread: whether a call on a process or thread acts on one of the caller's own. The target's id is in a
 * register, so nobody changes it after this check. The caller waits for its answer, so neither its id nor that
 * of its process can be reused in the meantime; if it is killed nobody gets the answer. Only another thread of
 * its process can end before the kernel continues the call, and its id may then belong to something else. So
 * this permits only calls that need it, and that change where and when something runs. */
static bool is_own_thread(pid_t caller, const struct seccomp_data *data) {
    bool second = data->nr == SYS_setpriority || data->nr == SYS_ioprio_set;
    if ((data->nr == SYS_setpriority && data->args[0] != PRIO_PROCESS) ||
        (data->nr == SYS_ioprio_set && data->args[0] != 1 /* IOPRIO_WHO_PROCESS */))
        return false;
    pid_t wanted = (pid_t)data->args[second];
    if (!starts_threads(data->nr))
        return wanted == caller || wanted == process_of(caller);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d", (int)caller, (int)wanted);
    return access(path, F_OK) == 0;
}

/* ---- the thread ---- */

/* take_listener: takes the listener that the child has sent. False: there is none, and none will come. */
static bool take_listener(piso__refusals *r) {
    char byte;
    int fd = -1, count = 1;
    ssize_t n = piso__receive_packet(r->fd, &byte, sizeof byte, &fd, &count, true);
    if (n == -EAGAIN)
        return true;
    piso__epoll_remove(listener.epoll_fd, r->fd);
    r->fd = piso__fd_close(r->fd);
    if (n != 1 || count != 1)
        return false;
    r->fd = fd;
    r->state = LISTENING;
    return piso__epoll_add(listener.epoll_fd, fd, r->id) == 0;
}

/* is_too_much: whether the process has asked too often. The kernel numbers all questions, and counts those that
 * were not received in 32 bits. A signal withdraws a waiting question but does not decrease the count. With the
 * count out of range a receive would wait for ever. */
static bool is_too_much(piso__refusals *r, uint64_t question) {
    if (!r->asked)
        r->first_question = question;
    r->asked = true;
    return question - r->first_question > piso__refusals_most;
}

/* answer: answers one call. False when all processes with this filter have ended, or ask for ever. Nothing here
 * blocks: there is a call, or there was one whose process has died. */
static bool answer(piso__refusals *r) {
    union {
        struct seccomp_notif call;
        char room[ROOM];
    } q = {.room = {0}};
    union {
        struct seccomp_notif_resp reply;
        char room[ROOM];
    } a = {.room = {0}};
    struct pollfd poll_fd = {.fd = r->fd, .events = POLLIN};
    if (poll(&poll_fd, 1, 0) <= 0)
        return true;
    if (!(poll_fd.revents & POLLIN))
        return false;
    if (ioctl(r->fd, SECCOMP_IOCTL_NOTIF_RECV, &q) < 0)
        return errno == ENOENT || errno == EINTR || errno == EAGAIN;
    if (is_too_much(r, q.call.id))
        return false;
    int error = error_of(r, &q.call.data);
    a.reply.id = q.call.id;
    if (error == ESRCH && is_own_thread((pid_t)q.call.pid, &q.call.data)) {
        a.reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
        a.reply.error = -error;
        note(r, &q.call.data, error);
    }
    ioctl(r->fd, SECCOMP_IOCTL_NOTIF_SEND, &a); /* fails if the caller has died */
    return true;
}

static void forget(piso__refusals *r) {
    if (r->fd >= 0)
        piso__epoll_remove(listener.epoll_fd, r->fd);
    r->fd = piso__fd_close(r->fd);
    if (r->state == WAITING)
        r->state = UNKNOWN;
    piso__slots_remove(&listener.watched, r->id);
    if (--r->references == 0)
        free(r);
}

/* handle: handles an event. False when the process must wait for its answer. */
static bool handle(uint64_t id, int64_t now_ns) {
    piso__lock_take(&lock);
    piso__refusals *r = piso__slots_get(&listener.watched, id);
    bool waits = r && r->state == LISTENING && r->rests_until_ns > now_ns;
    if (r && !waits) {
        if (!(r->state == WAITING ? take_listener(r) : answer(r)))
            forget(r);
        else if (++r->rounds > PISO__REFUSALS_FAST) /* also when no call was left, or it was permitted */
            r->rests_until_ns = now_ns + REST_NS;
    }
    piso__lock_give(&lock);
    return !waits;
}

static void *listener_main(void *argument) {
    int epoll_fd = (int)(intptr_t)argument;
    for (;;) {
        uint64_t ids[BATCH];
        int n = piso__epoll_wait(epoll_fd, ids, BATCH, -1);
        int64_t now = piso_now_ns();
        bool rest = n > 0;
        for (int i = 0; i < n; i++)
            rest &= !handle(ids[i], now);
        if (rest)
            piso__poll_in(NULL, 0, REST_NS);
    }
    return NULL;
}

/* start: starts the thread if it does not run yet. Needs the lock. */
static int start(void) {
    if (listener.started)
        return 0;
    int fd = piso__epoll_create();
    if (fd < 0)
        return fd;
    listener.epoll_fd = fd;
    piso__slots_init(&listener.watched);
    int r = piso__thread_start("piso-refusals", listener_main, (void *)(intptr_t)fd);
    if (r < 0)
        listener.epoll_fd = piso__fd_close(fd);
    listener.started = r == 0;
    return r;
}

/* ---- functions for other modules ---- */

int piso__refusals_new(const struct sock_filter *program, int count, int ruleset_fd, piso__refusals **ret_refusals,
                       int *ret_fd) {
    size_t size = (size_t)count * sizeof *program;
    piso__refusals *r = calloc(1, sizeof *r + size);
    if (!r)
        return -ENOMEM;
    int fds[2], error = piso__socketpair(fds);
    if (error == 0 && ruleset_fd >= 0 && (error = piso__send_fds(fds[0], "", 1, &ruleset_fd, 1)) < 0) {
        piso__fd_close(fds[0]);
        piso__fd_close(fds[1]);
    }
    if (error < 0) {
        free(r);
        return error;
    }
    r->references = 1;
    r->fd = fds[0];
    r->count = count;
    if (count)
        memcpy(r->program, program, size);
    *ret_refusals = r;
    *ret_fd = fds[1];
    return 0;
}

piso__refusals *piso__refusals_unref(piso__refusals *r) {
    if (!r)
        return NULL;
    piso__lock_take(&lock);
    bool last = --r->references == 0;
    piso__lock_give(&lock);
    if (last) {
        piso__fd_close(r->fd);
        free(r);
    }
    return NULL;
}

int piso__refusals_watch(piso__refusals *r) {
    piso__lock_take(&lock);
    int error = start();
    if (error == 0 && !(r->id = piso__slots_add(&listener.watched, r)))
        error = -ENOMEM;
    if (error == 0) {
        r->references++;
        error = piso__epoll_add(listener.epoll_fd, r->fd, r->id);
        if (error < 0)
            forget(r);
    }
    if (error < 0) {
        r->fd = piso__fd_close(r->fd);
        r->state = UNKNOWN;
    }
    piso__lock_give(&lock);
    return error;
}

int64_t piso__refusals_total(piso__refusals *r) {
    piso__lock_take(&lock);
    int64_t total = r->state == LISTENING || r->total ? r->total : r->state == WAITING ? -EAGAIN : -ENOSYS;
    piso__lock_give(&lock);
    return total;
}

size_t piso__refusals_read(piso__refusals *r, piso_refusal *ret_kinds, size_t count) {
    piso__lock_take(&lock);
    size_t n = r->kind_count < count ? r->kind_count : count;
    for (size_t i = 0; i < n; i++) {
        const struct kind *k = &r->kinds[i];
        ret_kinds[i] = (piso_refusal){
            .call = piso__filter_name(k->number),
            .number = k->number,
            .arguments = {k->arguments[0], k->arguments[1]},
            .error = k->error,
            .count = k->count,
        };
    }
    piso__lock_give(&lock);
    return n;
}
