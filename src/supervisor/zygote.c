/* zygote.c - the host's side of a zygote; see zygote.h. */
#include "supervisor/zygote.h"

#include <pthread.h>
#include <signal.h>

#include "os/os.h"
#include "supervisor/process.h"

#define READY_TIMEOUT_NS  INT64_C(120000000000) /* of who needs a child and finds the zygote still loading */
#define READY_SLICE_NS    INT64_C(50000000)     /* others get the lock in between, to close it */
#define ANSWER_TIMEOUT_NS INT64_C(10000000000)

struct piso_zygote {
    _Atomic uint32_t references;
    uint32_t fork_generation;
    piso_process *process;
    /* The lock guards the rest and is held while an answer is waited for. */
    pthread_mutex_t lock;
    int socket_fd; /* -1 once it has failed or was closed */
    bool is_ready;
    void *report;
    size_t report_size;
};

static bool is_foreign(const piso_zygote *z) {
    return z->fork_generation != piso__fork_generation();
}

static void unlock(pthread_mutex_t **lock) {
    pthread_mutex_unlock(*lock);
}
#define LOCKED(z)                                                                                                      \
    piso__cleanup(unlock) pthread_mutex_t *lock_ = &(z)->lock;                                                         \
    pthread_mutex_lock(lock_)

piso_zygote *piso_zygote_ref(piso_zygote *z) {
    atomic_fetch_add(&z->references, 1);
    return z;
}

piso_zygote *piso_zygote_unref(piso_zygote *z) {
    if (!z || atomic_fetch_sub(&z->references, 1) != 1)
        return NULL;
    if (!is_foreign(z)) {
        if (z->process)
            piso_process_kill(z->process, SIGKILL);
        pthread_mutex_destroy(&z->lock);
    }
    piso__fd_close(z->socket_fd);
    piso__process_unref(z->process);
    free(z->report);
    free(z);
    return NULL;
}

piso_zygote *piso__zygote_new(piso_process *process, int socket_fd) {
    piso_zygote *z = calloc(1, sizeof *z);
    if (!z)
        return NULL;
    z->references = 1;
    z->fork_generation = piso__fork_generation();
    z->process = process;
    z->socket_fd = socket_fd;
    pthread_mutex_init(&z->lock, NULL);
    return z;
}

piso_process *piso_zygote_process(piso_zygote *z) {
    return z->process;
}

/* fail: it is of no use any more. Needs the lock. */
static int fail(piso_zygote *z, int error) {
    z->socket_fd = piso__fd_close(z->socket_fd);
    piso_process_kill(z->process, SIGKILL);
    return error == -ECONNRESET || error == -EPIPE || error == -ETIMEDOUT ? PISO_EDIED : error;
}

void piso_zygote_close(piso_zygote *z) {
    if (is_foreign(z))
        return;
    LOCKED(z);
    fail(z, 0);
}

/* receive: one packet of the zygote's, waiting until end_ns. Needs the lock. -ETIMEDOUT and -EINTR leave it there. */
static int receive(piso_zygote *z, void *data, size_t size, int *ret_fd, int64_t end_ns) {
    int ready = 0;
    while (ready == 0) {
        int64_t left = end_ns - piso_now_ns();
        if (left <= 0)
            return -ETIMEDOUT;
        int fds[2] = {z->socket_fd, piso__process_exit_fd(z->process)};
        ready = piso__poll_in(fds, 2, left);
    }
    if (ready < 0)
        return ready;
    int r = piso__receive_fds(z->socket_fd, data, size, ret_fd, ret_fd ? 1 : 0, true);
    return r == -EAGAIN ? -ECONNRESET : r == -EPROTO ? PISO_EPROTO : r;
}

/* answer: the packet that answers a question. Needs the lock. A failure is the zygote's last. */
static int answer(piso_zygote *z, piso__zygote_kind kind, piso__zygote_packet *ret_packet) {
    int64_t end_ns = piso_now_ns() + ANSWER_TIMEOUT_NS;
    int r;
    do
        r = receive(z, ret_packet, sizeof *ret_packet, NULL, end_ns);
    while (r == -EINTR);
    if (r == 0 && (ret_packet->magic != PISO__ZYGOTE_MAGIC || ret_packet->kind != (uint32_t)kind))
        r = PISO_EPROTO;
    return r < 0 ? fail(z, r) : 0;
}

/* take_report: what follows READY. */
static int take_report(piso_zygote *z, const piso__zygote_packet *packet, int64_t end_ns) {
    size_t size = (size_t)packet->value;
    if (packet->magic != PISO__ZYGOTE_MAGIC || packet->kind != PISO__ZYGOTE_READY || packet->value < 1 ||
        size > PISO__ZYGOTE_REPORT)
        return PISO_EPROTO;
    piso__autofree void *report = malloc(size);
    if (!report)
        return -ENOMEM;
    int r;
    do
        r = receive(z, report, size, NULL, end_ns);
    while (r == -EINTR);
    if (r < 0)
        return r;
    z->report = piso__steal_pointer(&report);
    z->report_size = size;
    z->is_ready = true;
    return 0;
}

/* wait_ready: needs the lock. */
static int wait_ready(piso_zygote *z, int64_t timeout_ns) {
    if (z->socket_fd < 0)
        return PISO_EDIED;
    if (z->is_ready)
        return 0;
    int64_t now = piso_now_ns(), end_ns = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    piso__zygote_packet packet;
    int r = receive(z, &packet, sizeof packet, NULL, end_ns);
    if (r == -ETIMEDOUT || r == -EINTR)
        return r;
    if (r == 0)
        r = take_report(z, &packet, piso_now_ns() + ANSWER_TIMEOUT_NS);
    return r < 0 ? fail(z, r) : 0;
}

int piso_zygote_ready(piso_zygote *z, int64_t timeout_ns, const void **ret_report, size_t *ret_size) {
    if (is_foreign(z))
        return PISO_EFORKED;
    LOCKED(z);
    int r = wait_ready(z, timeout_ns);
    if (r == 0) {
        *ret_report = z->report;
        *ret_size = z->report_size;
    }
    return r;
}

/* ask: sends a question, and the descriptors that go with it. Needs the lock. */
static int ask(piso_zygote *z, piso__zygote_kind kind, int value, const int *fds, int count) {
    piso__zygote_packet packet = {.magic = PISO__ZYGOTE_MAGIC, .kind = kind, .value = value};
    int r = piso__send_fds(z->socket_fd, &packet, sizeof packet, NULL, 0);
    if (r == 0 && count > 0)
        r = piso__send_fds(z->socket_fd, "", 1, fds, count);
    return r < 0 ? fail(z, r) : 0;
}

/* fork_with: needs the lock. */
static pid_t fork_with(piso_zygote *z, const int *fds, int count, int *ret_pidfd) {
    piso__zygote_packet packet;
    int r = ask(z, PISO__ZYGOTE_FORK, count, fds, count);
    if (r == 0)
        r = answer(z, PISO__ZYGOTE_FORKED, &packet);
    if (r < 0)
        return r;
    if (packet.value < 0)
        return packet.value;
    char byte;
    r = receive(z, &byte, 1, ret_pidfd, piso_now_ns() + ANSWER_TIMEOUT_NS);
    return r < 0 ? fail(z, r) : packet.value;
}

/* wait_until_ready: without the lock. */
static int wait_until_ready(piso_zygote *z) {
    int64_t end_ns = piso_now_ns() + READY_TIMEOUT_NS;
    int r;
    do {
        LOCKED(z);
        r = wait_ready(z, READY_SLICE_NS);
    } while (r == -EINTR || (r == -ETIMEDOUT && piso_now_ns() < end_ns));
    return r;
}

pid_t piso__zygote_fork(const piso_spawn *spawn, const int stdio[3], int channel_fd, const piso__sandbox *sandbox,
                        int *ret_pidfd) {
    piso_zygote *z = spawn->zygote;
    if (is_foreign(z))
        return PISO_EFORKED;
    piso__autoclose int block = piso__fork_block_new(spawn, sandbox), directory = piso__directory_open();
    if (block < 0 || directory < 0)
        return block < 0 ? block : directory;
    int rules = sandbox ? piso__sandbox_fd(sandbox) : -1;
    int fds[PISO__FORK_FDS + 1] = {
        [PISO__FORK_BLOCK] = block,     [PISO__FORK_CWD] = directory,   [PISO__FORK_STDIN] = stdio[0],
        [PISO__FORK_STDOUT] = stdio[1], [PISO__FORK_STDERR] = stdio[2], [PISO__FORK_CHANNEL] = channel_fd,
        [PISO__FORK_RULES] = rules,
    };
    int r = wait_until_ready(z);
    LOCKED(z);
    if (r == 0 && z->socket_fd < 0)
        r = PISO_EDIED;
    return r < 0 ? r : fork_with(z, fds, PISO__FORK_FDS + (rules >= 0), ret_pidfd);
}

int piso__zygote_reap(piso_zygote *z, pid_t pid, piso_exit *ret_exit) {
    if (is_foreign(z))
        return PISO_EFORKED;
    LOCKED(z);
    piso__zygote_packet packet;
    int r = z->socket_fd < 0 ? PISO_EDIED : ask(z, PISO__ZYGOTE_REAP, pid, NULL, 0);
    if (r == 0)
        r = answer(z, PISO__ZYGOTE_REAPED, &packet);
    if (r < 0)
        return r;
    if (packet.value != 1)
        return packet.value < 0 ? packet.value : -EAGAIN;
    *ret_exit = (piso_exit){.known = true, .code = packet.code, .signal = packet.signal};
    return 0;
}
