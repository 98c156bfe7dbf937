/* zygote.c - the host's side of a zygote; see zygote.h. */
#include "supervisor/zygote.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "os/os.h"
#include "sandbox/plan/report.h"
#include "supervisor/process.h"

/* for a caller that needs a child while the zygote is still loading */
#define READY_TIMEOUT_NS   INT64_C(120000000000)
#define ANSWER_TIMEOUT_NS  INT64_C(10000000000) /* to fork, which takes milliseconds */
#define EXECUTE_TIMEOUT_NS INT64_C(60000000000) /* for a child, up to its exec */

#define ROOM (sizeof(piso__zygote_packet) + PISO__ZYGOTE_REPORT)

enum { LOADING, READY, FAILED };

struct piso_zygote {
    piso__parent parent;
    _Atomic uint32_t references; /* of users and children; without any it ends */
    _Atomic uint32_t holders;    /* all of these and the monitor; without any it is freed */
    uint32_t fork_generation;
    piso_process *process;
    _Atomic uint32_t state;
    /* The lock guards the rest, and is held for a few system calls that never block. */
    pthread_mutex_t lock;
    int socket_fd; /* only the monitor closes it; -1 then */
    int error;     /* why it is FAILED */
    char *report;  /* while LOADING, a buffer for a packet and any report */
    size_t report_size;
};

static int ask_reap(piso__parent *parent, pid_t pid);
static void unref(piso__parent *parent);

static bool is_foreign(const piso_zygote *z) {
    return z->fork_generation != piso__fork_generation();
}

static void unlock(pthread_mutex_t **lock) {
    pthread_mutex_unlock(*lock);
}
#define LOCKED(z)                                                                                                      \
    piso__cleanup(unlock) pthread_mutex_t *lock_ = &(z)->lock;                                                         \
    pthread_mutex_lock(lock_)

/* ---- the object ---- */

piso_zygote *piso__zygote_new(piso_process *process, int socket_fd) {
    piso_zygote *z = calloc(1, sizeof *z);
    char *report = malloc(ROOM);
    if (!z || !report) {
        free(z);
        free(report);
        return NULL;
    }
    z->parent = (piso__parent){.ask_reap = ask_reap, .unref = unref};
    z->references = z->holders = 1;
    z->fork_generation = piso__fork_generation();
    z->process = process;
    z->socket_fd = socket_fd;
    z->report = report;
    pthread_mutex_init(&z->lock, NULL);
    return z;
}

piso_zygote *piso__zygote_hold(piso_zygote *z) {
    atomic_fetch_add(&z->holders, 1);
    return z;
}

piso_zygote *piso__zygote_release(piso_zygote *z) {
    if (!z || atomic_fetch_sub(&z->holders, 1) != 1)
        return NULL;
    if (!is_foreign(z)) { /* as in process.c */
        piso__fd_close(z->socket_fd);
        pthread_mutex_destroy(&z->lock);
    }
    piso__process_unref(z->process);
    free(z->report);
    free(z);
    return NULL;
}

/* enter: enters one of the states after LOADING. Needs the lock. */
static void enter(piso_zygote *z, uint32_t state) {
    atomic_store_explicit(&z->state, state, memory_order_release);
    piso__word_wake(&z->state);
}

/* lose: marks it as lost: it gets no more requests. False: it was lost already. Needs the lock. */
static bool lose(piso_zygote *z, int error) {
    if (atomic_load_explicit(&z->state, memory_order_relaxed) == FAILED)
        return false;
    z->error = error == PISO_EPROTO || error == -ENOMEM ? error : PISO_EDIED;
    enter(z, FAILED);
    return true;
}

/* fail: loses it and kills it. The monitor will see its end. Needs the lock. */
static void fail(piso_zygote *z, int error) {
    if (lose(z, error))
        piso_process_kill(z->process, SIGKILL);
}

/* dismiss: it is not needed any more, and ends by itself when it has cleared up what its children have left. If
 * it is stopped it must continue for that. */
static void dismiss(piso_zygote *z) {
    if (is_foreign(z))
        return;
    LOCKED(z);
    piso_process_kill(z->process, SIGCONT);
    if (atomic_load_explicit(&z->state, memory_order_relaxed) == READY && piso__socket_end(z->socket_fd) == 0)
        lose(z, 0);
    else
        fail(z, 0);
}

piso_zygote *piso_zygote_ref(piso_zygote *z) {
    atomic_fetch_add(&z->references, 1);
    return z;
}

piso_zygote *piso_zygote_unref(piso_zygote *z) {
    if (!z || atomic_fetch_sub(&z->references, 1) != 1)
        return NULL;
    dismiss(z);
    return piso__zygote_release(z);
}

void piso_zygote_close(piso_zygote *z) {
    if (!z || is_foreign(z))
        return;
    LOCKED(z);
    fail(z, 0);
}

piso_process *piso_zygote_process(piso_zygote *z) {
    return z->process;
}

/* ---- its packets, read by the monitor ---- */

void piso__zygote_close_fd(piso_zygote *z) {
    piso__fd_close(piso__fd_steal(&z->socket_fd));
}

int piso__zygote_socket(const piso_zygote *z) {
    return z->socket_fd;
}

/* receive_ready: reads READY and the report behind it. Needs the lock. */
static int receive_ready(piso_zygote *z) {
    piso__zygote_packet packet;
    int none = 0;
    ssize_t n = piso__receive_packet(z->socket_fd, z->report, ROOM, NULL, &none, true);
    if (n < 0)
        return (int)n;
    memcpy(&packet, z->report, sizeof packet);
    size_t size = (size_t)n - sizeof packet;
    if ((size_t)n <= sizeof packet || packet.magic != PISO__ZYGOTE_MAGIC || packet.kind != PISO__ZYGOTE_READY ||
        (size_t)packet.value != size)
        return PISO_EPROTO;
    memmove(z->report, z->report + sizeof packet, size);
    char *fitting = realloc(z->report, size);
    if (fitting)
        z->report = fitting;
    z->report_size = size;
    enter(z, READY);
    return 0;
}

/* receive_reaped: reads REAPED. Needs the lock. */
static int receive_reaped(piso_zygote *z, pid_t *ret_pid, piso_exit *ret_exit) {
    piso__zygote_packet packet;
    int none = 0;
    ssize_t n = piso__receive_packet(z->socket_fd, &packet, sizeof packet, NULL, &none, true);
    if (n < 0)
        return (int)n;
    if (n != sizeof packet || packet.magic != PISO__ZYGOTE_MAGIC || packet.kind != PISO__ZYGOTE_REAPED ||
        packet.value > 1)
        return PISO_EPROTO;
    *ret_pid = packet.pid;
    *ret_exit = (piso_exit){.known = packet.value == 1, .code = packet.code, .signal = packet.signal};
    return 1;
}

int piso__zygote_receive(piso_zygote *z, pid_t *ret_pid, piso_exit *ret_exit) {
    LOCKED(z);
    bool is_loading = atomic_load_explicit(&z->state, memory_order_relaxed) == LOADING;
    int r = is_loading ? receive_ready(z) : receive_reaped(z, ret_pid, ret_exit);
    return r == -EAGAIN ? 0 : r == -EPROTO ? PISO_EPROTO : r;
}

void piso__zygote_end(piso_zygote *z, int error) {
    LOCKED(z);
    if (error == -ECONNRESET)
        lose(z, error);
    else
        fail(z, error);
    piso__zygote_close_fd(z);
}

/* ---- requests ---- */

/* wait_ready: 0, -ETIMEDOUT, -EINTR, or why it failed. */
static int wait_ready(piso_zygote *z, int64_t timeout_ns) {
    int r = piso__word_wait(&z->state, LOADING, timeout_ns);
    if (r <= 0)
        return r < 0 ? r : -ETIMEDOUT;
    LOCKED(z);
    return atomic_load_explicit(&z->state, memory_order_relaxed) == FAILED ? z->error : 0;
}

int piso_zygote_ready(piso_zygote *z, int64_t timeout_ns, const void **ret_report, size_t *ret_size) {
    if (is_foreign(z))
        return PISO_EFORKED;
    int r = wait_ready(z, timeout_ns);
    if (r < 0)
        return r;
    *ret_report = z->report; /* which does not change once it is ready */
    *ret_size = z->report_size;
    return 0;
}

/* ask: sends a request, without blocking. The zygote is lost if the request does not fit, because so many are
 * queued already, or nobody listens. */
static int ask(piso_zygote *z, piso__zygote_kind kind, int value, const int *fds, int count) {
    piso__zygote_packet packet = {.magic = PISO__ZYGOTE_MAGIC, .kind = kind, .value = value};
    LOCKED(z);
    if (atomic_load_explicit(&z->state, memory_order_relaxed) == FAILED)
        return z->error;
    int r = piso__send_fds(z->socket_fd, &packet, sizeof packet, fds, count);
    if (r == -ETOOMANYREFS || r == -ENOMEM || r == -ENOBUFS) /* this process's problem, not the zygote's */
        return r;
    if (r < 0)
        fail(z, r);
    return r < 0 ? z->error : 0;
}

/* answer: waits for the answer to a fork on the socket that was sent with it. */
static pid_t answer(piso_zygote *z, int answer_fd, int *ret_pidfd) {
    int64_t end_ns = piso_now_ns() + ANSWER_TIMEOUT_NS;
    int ready;
    do {
        int64_t left = end_ns - piso_now_ns();
        ready = piso__poll_in(&answer_fd, 1, left > 0 ? left : 0);
    } while (ready == -EINTR);
    piso__zygote_packet packet;
    int count = 1, pidfd = -1;
    ssize_t n = ready > 0   ? piso__receive_packet(answer_fd, &packet, sizeof packet, &pidfd, &count, true)
                : ready < 0 ? ready
                            : -ETIMEDOUT;
    bool good = n == sizeof packet && packet.magic == PISO__ZYGOTE_MAGIC && packet.kind == PISO__ZYGOTE_FORKED &&
                (packet.value > 0) == (count == 1);
    if (good && packet.value > 0)
        *ret_pidfd = pidfd;
    else if (n >= 0)
        piso__fd_close(pidfd);
    if (good)
        return packet.value;
    if (n == -EMFILE && packet.magic == PISO__ZYGOTE_MAGIC && packet.kind == PISO__ZYGOTE_FORKED && packet.value > 0) {
        kill(-packet.value, SIGKILL); /* nobody has it; its pid is not reused until its zygote is asked to reap it */
        ask(z, PISO__ZYGOTE_REAP, packet.value, NULL, 0);
        return -EMFILE;
    }
    LOCKED(z);
    if (n == -ETIMEDOUT && piso__socket_end(z->socket_fd) == 0)
        lose(z, 0); /* when it continues it sees that, and looks after the children that it has */
    else
        fail(z, n >= 0 || n == -EPROTO ? PISO_EPROTO : (int)n);
    return z->error;
}

/* executed: waits until the child runs its program. 0 or a negative code. A child that failed or takes too long
 * is killed, and the zygote is asked to reap it. */
static int executed(const piso_spawn *spawn, int answer_fd, int block, pid_t pid, int pidfd) {
    int64_t end_ns = piso_now_ns() + EXECUTE_TIMEOUT_NS;
    int layer = -1, ready;
    do {
        int64_t left = end_ns - piso_now_ns();
        ready = piso__poll_in(&answer_fd, 1, left > 0 ? left : 0);
    } while (ready == -EINTR);
    int r = ready > 0 ? piso__fork_block_failure(block, &layer) : ready < 0 ? ready : -ETIMEDOUT;
    if (r == 0)
        return 0;
    piso__kill_group(pidfd, pid, SIGKILL);
    ask(spawn->zygote, PISO__ZYGOTE_REAP, pid, NULL, 0);
    if (layer < 0 || layer >= PISO_LAYERS)
        return r;
    if (spawn->report)
        piso__sandbox_report_failure(layer, r, spawn->report);
    return PISO_ESANDBOX;
}

pid_t piso__zygote_fork(const piso_spawn *spawn, const int stdio[3], int channel_fd, piso__sandbox *sandbox,
                        int *ret_pidfd) {
    piso_zygote *z = spawn->zygote;
    if (is_foreign(z))
        return PISO_EFORKED;
    piso__autoclose int block = piso__fork_block_new(spawn, sandbox), directory = piso__directory_open();
    if (block < 0 || directory < 0)
        return block < 0 ? block : directory;
    int sockets[2];
    int r = piso__socketpair(sockets);
    if (r < 0)
        return r;
    piso__autoclose int answer_fd = sockets[0], its_end = sockets[1];
    int rules = sandbox ? piso__sandbox_fd(sandbox) : -1;
    const int fds[PISO__FORK_FDS + 1] = {
        [PISO__FORK_ANSWER] = its_end,     [PISO__FORK_BLOCK] = block,     [PISO__FORK_CWD] = directory,
        [PISO__FORK_STDIN] = stdio[0],     [PISO__FORK_STDOUT] = stdio[1], [PISO__FORK_STDERR] = stdio[2],
        [PISO__FORK_CHANNEL] = channel_fd, [PISO__FORK_RULES] = rules,
    };
    do
        r = wait_ready(z, READY_TIMEOUT_NS);
    while (r == -EINTR);
    if (r == 0)
        r = ask(z, PISO__ZYGOTE_FORK, 0, fds, PISO__FORK_FDS + (rules >= 0));
    its_end = piso__fd_close(its_end); /* so that a hang-up means that the zygote has gone */
    piso__autoclose int pidfd = -1;
    pid_t pid = r < 0 ? r : answer(z, answer_fd, &pidfd);
    if (pid > 0 && spawn->execute && (r = executed(spawn, answer_fd, block, pid, pidfd)) < 0)
        return r;
    if (pid > 0)
        *ret_pidfd = piso__fd_steal(&pidfd);
    return pid;
}

/* ---- as the parent of its children ---- */

piso__parent *piso__zygote_as_parent(piso_zygote *z) {
    return &z->parent;
}

static int ask_reap(piso__parent *parent, pid_t pid) {
    piso_zygote *z = (piso_zygote *)parent;
    return is_foreign(z) ? PISO_EFORKED : ask(z, PISO__ZYGOTE_REAP, pid, NULL, 0);
}

static void unref(piso__parent *parent) {
    piso_zygote_unref((piso_zygote *)parent);
}
