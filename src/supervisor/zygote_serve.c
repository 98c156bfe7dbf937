/* zygote_serve.c - the zygote's side: it answers its host, and is forked. See zygote.h. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/structs.h"
#include "os/os.h"
#include "sandbox/apply.h"
#include "sandbox/plan/report.h"
#include "sandbox/sandbox.h"
#include "supervisor/keeper.h"
#include "supervisor/process.h"
#include "supervisor/zygote.h"

#define STAY_NS INT64_C(1000000000)

/* Of this process. It exists from the first piso_zygote_serve on, also between two calls. */
static piso__keeper keeper;
static bool has_keeper;

/* The descriptors of a request. All are closed when it goes out of scope. */
typedef struct request {
    int fds[PISO__FDS_MAX], count;
} request;

static void close_request(request *q) {
    for (int i = 0; i < q->count; i++)
        piso__fd_close(q->fds[i]);
    q->count = 0;
}

/* watch_host: returns the host's pidfd, or -1 when it has no pid here; PISO_EDIED. */
static int watch_host(int socket_fd) {
    pid_t host = piso__socket_creator(socket_fd);
    int fd = host > 0 ? piso__pidfd_open(host) : -1;
    return fd == -ESRCH ? PISO_EDIED : fd < 0 ? -1 : fd;
}

int piso_zygote_guard(int socket_fd) {
    piso__autoclose int host = watch_host(socket_fd);
    if (host == PISO_EDIED)
        return host;
    int r = piso__fd_cloexec(socket_fd);
    if (r == 0)
        r = piso__kill_on_hangup(socket_fd, true);
    /* the host may have ended before */
    return r < 0 ? r : piso__poll_in(&socket_fd, 1, 0) > 0 ? PISO_EDIED : 0;
}

int piso_zygote_report(int socket_fd, const void *report, size_t size) {
    if (size == 0 || size > PISO__ZYGOTE_REPORT)
        return -EINVAL;
    int r = piso__thread_count();
    if (r != 1)
        return r < 0 ? r : -EBUSY;
    const piso__zygote_packet packet = {
        .magic = PISO__ZYGOTE_MAGIC, .kind = PISO__ZYGOTE_READY, .value = (int32_t)size};
    piso__autofree uint8_t *all = malloc(sizeof packet + size);
    if (!all)
        return -ENOMEM;
    memcpy(all, &packet, sizeof packet);
    memcpy(all + sizeof packet, report, size);
    /* from here on the host sends requests, which must not kill */
    r = piso__kill_on_hangup(socket_fd, false);
    return r < 0 ? r : piso__send_fds(socket_fd, all, sizeof packet + size, NULL, 0);
}

static const piso_fork_hooks no_hooks;

static void call(void (*hook)(void)) {
    if (hook)
        hook();
}

/* prepare: does before the fork what can fail, so that the host gets the error. The zygote does not need its
 * own directory. */
static int prepare(const request *q, piso_fork *ret_fork) {
    piso_fork fork;
    const char *cwd;
    int r = piso__fork_block_read(q->fds[PISO__FORK_BLOCK], &fork, &cwd);
    if (r < 0)
        return r;
    int threads = fork.execute ? 1 : piso__thread_count();
    r = threads == 1 ? piso__keeper_reserve(&keeper) : threads < 0 ? threads : -EBUSY;
    if (r < 0)
        piso_fork_fini(&fork);
    if (r == 0 && (r = piso__directory_enter(q->fds[PISO__FORK_CWD], cwd)) < 0)
        piso_fork_fini(&fork);
    if (r == 0)
        *ret_fork = fork;
    return r;
}

/* confine: applies the sandbox. 0, or a negative code and the layer that failed. */
static int confine(const piso_fork *fork, int rules_fd, int *ret_layer) {
    piso__cleanup(piso__sandbox_freep) piso__sandbox *sandbox = NULL;
    int r = piso__sandbox_import(fork->sandbox, fork->sandbox_size, rules_fd, &sandbox);
    if (r < 0)
        return r;
    r = piso__sandbox_apply(sandbox, rules_fd);
    if (r < 0)
        *ret_layer = piso__sandbox_failed(sandbox);
    return r;
}

/* confine_fork: applies the sandbox or ends the child, whose last words report that. */
static void confine_fork(const piso_fork *fork, int rules_fd) {
    int layer = -1, r = confine(fork, rules_fd, &layer);
    if (r == 0)
        return;
    piso_sandbox_report report = {0};
    const char *name = piso_layer_name((piso_layer)layer), *reason = piso_strerror(r);
    if (name) {
        piso__sandbox_report_failure(layer, r, &report);
        reason = report.layers[layer].detail;
    }
    char words[sizeof report.layers[0].detail + 128];
    int n = snprintf(words, sizeof words, "the extension could not be confined, so it was not started: %s%s%s\n",
                     name ? name : "", name ? ": " : "", reason);
    piso__write_if_ready(2, words, (size_t)n);
    piso__kill_own_group();
}

/* execute: runs the child's program. Does not return. */
static void execute(const request *q, const piso_fork *fork) {
    enum { CHANNEL_END = PISO__FORK_CHANNEL - PISO__FORK_STDIN + 1 };
    int fds[PISO__FDS_MAX], count = q->count - PISO__FORK_STDIN, layer = -1;
    int rules = q->count > PISO__FORK_RULES ? CHANNEL_END : -1, block = count, r = 0;
    memcpy(fds, q->fds + PISO__FORK_STDIN, (size_t)count * sizeof *fds);
    fds[count++] = q->fds[PISO__FORK_BLOCK];
    fds[count++] = q->fds[PISO__FORK_ANSWER]; /* the exec closes it, which tells the host */
    if (piso__place_fds(fds, count) < 0)
        piso__kill_own_group();
    if (fork->sandbox_size)
        r = confine(fork, rules, &layer);
    if (r == 0)
        r = piso__execute(fork->argv, fork->envp, CHANNEL_END);
    piso__fork_block_fail(block, r, layer);
    piso__kill_own_group();
}

/* fork_child: 1 in the child; in the zygote 0 with the answer in *ret_packet. */
static int fork_child(const request *q, const piso_fork_hooks *hooks, piso__zygote_packet *ret_packet, int *ret_pidfd,
                      piso_fork *ret_fork) {
    piso_fork fork = {0};
    ret_packet->value = prepare(q, &fork);
    if (ret_packet->value < 0)
        return 0;
    if (fork.execute)
        hooks = &no_hooks; /* the child does not continue a runtime */
    call(hooks->before);
    ret_packet->value = piso__fork(ret_pidfd);
    if (ret_packet->value != 0) {
        call(hooks->in_parent);
        piso_fork_fini(&fork);
        if (ret_packet->value > 0)
            piso__keeper_add(&keeper, ret_packet->value);
        return 0;
    }
    if (fork.execute)
        execute(q, &fork);
    piso__keeper_forget(&keeper);
    has_keeper = false;
    /* this closes the zygote's socket to the host with the rest; a child without its own descriptors is useless */
    if (piso__place_fds(q->fds + PISO__FORK_STDIN, q->count - PISO__FORK_STDIN) < 0)
        piso__kill_own_group();
    if (fork.sandbox_size)
        confine_fork(&fork, q->count > PISO__FORK_RULES ? PISO__FORK_RULES - PISO__FORK_STDIN : -1);
    piso__process_title(fork.name);
    call(hooks->in_child);
    *ret_fork = fork;
    return 1;
}

/* disown: ends a child that nobody has any more, since its requester has gone. */
static void disown(pid_t pid) {
    piso__kill_child(pid);
    piso__keeper_end(&keeper, pid, false);
}

/* serve_fork: 1 in the child. A requester that has given up in the meantime is no error of this process. */
static int serve_fork(request *q, const piso_fork_hooks *hooks, piso_fork *ret_fork) {
    if (q->count < PISO__FORK_FDS)
        return PISO_EPROTO;
    piso__autoclose int pidfd = -1;
    piso__zygote_packet packet = {.magic = PISO__ZYGOTE_MAGIC, .kind = PISO__ZYGOTE_FORKED};
    if (fork_child(q, hooks, &packet, &pidfd, ret_fork) != 0) {
        q->count = 0; /* in the child: closed already */
        return 1;
    }
    int r = piso__send_fds(q->fds[PISO__FORK_ANSWER], &packet, sizeof packet, &pidfd, pidfd >= 0);
    if (r < 0 && pidfd >= 0)
        disown(packet.value);
    return 0;
}

/* report_reaped: a host that does not take it is found to be gone by the next check of the socket. */
static void report_reaped(void *argument, pid_t pid, int r, const piso_exit *status) {
    const piso__zygote_packet packet = {.magic = PISO__ZYGOTE_MAGIC,
                                        .kind = PISO__ZYGOTE_REAPED,
                                        .value = r,
                                        .pid = pid,
                                        .code = status->code,
                                        .signal = status->signal};
    piso__send_fds(*(int *)argument, &packet, sizeof packet, NULL, 0);
}

static int serve_reap(int socket_fd, pid_t pid) {
    const piso_exit unknown = {.code = -1};
    if (!piso__keeper_end(&keeper, pid, true))
        report_reaped(&socket_fd, pid, -ECHILD, &unknown);
    return 0;
}

/* answer: answers one request of the host. 1 in a child, 0, -ECONNRESET when the host has gone. */
static int answer(int socket_fd, const piso_fork_hooks *hooks, piso_fork *ret_fork) {
    piso__cleanup(close_request) request q = {.count = 0};
    piso__zygote_packet packet;
    int count = PISO__FDS_MAX;
    ssize_t n = piso__receive_packet(socket_fd, &packet, sizeof packet, q.fds, &count, false);
    if (n < 0)
        return (int)n;
    q.count = count;
    if (n != sizeof packet || packet.magic != PISO__ZYGOTE_MAGIC)
        return PISO_EPROTO;
    if (packet.kind == PISO__ZYGOTE_FORK)
        return serve_fork(&q, hooks, ret_fork);
    return packet.kind == PISO__ZYGOTE_REAP ? serve_reap(socket_fd, packet.value) : PISO_EPROTO;
}

enum { HOST, SOCKET, CHILDREN };

/* serve_once: waits for something to do, and does it. 1 in a child; 0; -ECONNRESET when the host has closed the
 * socket, -ESRCH when it has gone, -ETIMEDOUT when nothing came for idle_ns. */
static int serve_once(int fds[3], const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork) {
    int64_t due = piso__keeper_timeout(&keeper);
    /* while a check is due, ends of other children wait for it */
    int ready = piso__poll_in(fds, due < 0 ? 3 : 2, due < 0 ? idle_ns : due);
    if (ready < 0)
        return ready;
    if (ready & 1 << HOST)
        return -ESRCH;
    if (ready & 1 << CHILDREN)
        piso__keeper_notice(&keeper);
    int r = ready & 1 << SOCKET ? answer(fds[SOCKET], hooks, ret_fork) : 0;
    if (r == 0 && piso__keeper_timeout(&keeper) == 0)
        piso__keeper_check(&keeper, report_reaped, &fds[SOCKET]);
    return r != 0 || ready || due >= 0 ? r : -ETIMEDOUT;
}

/* outlive_host: runs as long as there are children, for a host that does not get answers any more. */
static void outlive_host(int host_fd) {
    int fds[3] = {host_fd, -1, keeper.signal_fd}, r = 0;
    while (r != -ESRCH && (keeper.count || piso__keeper_timeout(&keeper) >= 0)) {
        piso__keeper_end_dead(&keeper);
        r = serve_once(fds, &no_hooks, STAY_NS, NULL);
    }
}

/* serve: piso_zygote_serve with complete structs. */
static int serve(int socket_fd, const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork) {
    int host_fd = watch_host(socket_fd), r = host_fd == PISO_EDIED ? -ESRCH : 0;
    if (r == 0 && !has_keeper) {
        r = piso__keeper_init(&keeper);
        has_keeper = r == 0;
    }
    int fds[3] = {[HOST] = host_fd, [SOCKET] = socket_fd, [CHILDREN] = keeper.signal_fd};
    while (r == 0 || (r == -ETIMEDOUT && piso__has_children()))
        r = serve_once(fds, hooks, idle_ns, ret_fork);
    if (r == 1)
        return 1; /* in the child every descriptor of the zygote is closed, or refers to something else */
    if (has_keeper && r != -EINTR) {
        piso__socket_end(socket_fd);
        if (r != -ESRCH)
            outlive_host(host_fd);
        piso__keeper_end_all(&keeper);
    }
    piso__fd_close(host_fd == PISO_EDIED ? -1 : host_fd);
    return r == -ECONNRESET || r == -EPIPE || r == -ESRCH || r == -ETIMEDOUT ? 0 : r;
}

int piso_zygote_serve(int socket_fd, const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork) {
    piso_fork_hooks all_hooks = no_hooks;
    piso_fork fork;
    if ((hooks && piso__struct_in(&all_hooks, sizeof all_hooks, hooks) < 0) ||
        !piso__struct_is_sized(ret_fork, sizeof fork))
        return -EINVAL;
    int r = serve(socket_fd, &all_hooks, idle_ns, &fork);
    if (r == 1)
        piso__struct_out(ret_fork, &fork, sizeof fork);
    return r;
}

int piso_zygote_share(void) {
    int threads = piso__thread_count();
    return threads < 0 ? threads : threads > 1 ? -EBUSY : piso__memory_share();
}

int piso_fork_settle(void) {
    /* the other thread waits for the host's end
     * */
    return piso__memory_settle(piso__is_watched() ? 2 : 1);
}

void piso_process_title(const char *title) {
    piso__process_title(title);
}
