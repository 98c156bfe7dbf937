/* zygote.h - a warm process that forks children, from both sides.
 *
 * Host and zygote speak over a SOCK_SEQPACKET pair of which the zygote inherits one end:
 *
 *     zygote -> host   READY size, followed by so many bytes, its report
 *     host -> zygote   FORK, with descriptors: a socket for the answer, block, directory, stdin, stdout, stderr, channel,
 *                      and what else the child is to get
 *     zygote           answers by that socket: FORKED pid with its pidfd, or -errno
 *     child            if it is to execute a program: closes the same socket by that, or by its end; then the block says
 *                      what has failed
 *     host -> zygote   REAP pid
 *     zygote -> host   REAPED pid: 1 with the status, or -errno; when what the child has left behind is gone (keeper.h)
 *
 * Rules:
 *  1. Who asks holds no lock while the answer is awaited, so any number of threads may ask, and a zygote that is stopped
 *     holds up nobody but those who want a child of it. A fork has a socket for its answer: it cannot be mistaken for that
 *     of another, and when the zygote ends the socket says so. What comes over the zygote's own socket is read by the
 *     monitor (process.h), as it comes; nobody waits for it but who waits for READY.
 *  2. A zygote that does not fork in time is not asked any more: it is told so by the end of the socket, and looks after
 *     the children that it has when it goes on. One that says what makes no sense is killed. One that does not reap in
 *     time is left alone: the child's end is told without it, and it reaps when it goes on.
 *  3. The zygote has one thread, counted before each fork; a child that would inherit half of a pool is never made.
 *  4. The zygote reaps a child only when the host says so, after the host has killed the child's group: the number of
 *     the group is the child's until then, exactly as if the host were its parent.
 *  5. A child closes the zygote's socket before anything else runs in it, so no extension ever holds it.
 *  6. The zygote dies with the host: by a signal of the kernel's while it loads, by its own poll of the host's pidfd
 *     when it serves; then it kills its children and all that they have started before it ends. Its children watch the
 *     host themselves, too (watch.c). When a zygote is killed, its children go on, with nobody who takes their orphans.
 *     When its host has closed the socket it stays until its children have ended. It also ends when the host has not
 *     asked for anything for a while and there is no child; a host that asks at that moment sees it as dead, and
 *     starts another.
 *  7. Objects know their process: after a fork of the host every function returns PISO_EFORKED. */
#ifndef PISO_SUPERVISOR_ZYGOTE_H
#define PISO_SUPERVISOR_ZYGOTE_H

#include <sys/types.h>

#include "base/base.h"
#include "sandbox/sandbox.h"
#include "supervisor/parent.h"

#define PISO__ZYGOTE_MAGIC  0x5a534950u /* "PISZ" */
#define PISO__ZYGOTE_REPORT (64 << 10)

/* What a child gets, in this order; what is sent after these is its descriptors 4, 5, ... until it is set up. */
enum {
    PISO__FORK_ANSWER,
    PISO__FORK_BLOCK,
    PISO__FORK_CWD,
    PISO__FORK_STDIN,
    PISO__FORK_STDOUT,
    PISO__FORK_STDERR,
    PISO__FORK_CHANNEL,
    PISO__FORK_RULES /* of a sandbox, if there are any */
};
#define PISO__FORK_FDS 7 /* without the last */

typedef enum piso__zygote_kind {
    PISO__ZYGOTE_READY = 1,
    PISO__ZYGOTE_FORK,
    PISO__ZYGOTE_FORKED,
    PISO__ZYGOTE_REAP,
    PISO__ZYGOTE_REAPED
} piso__zygote_kind;

typedef struct piso__zygote_packet {
    uint32_t magic, kind;
    int32_t value;
    int32_t pid, code, signal; /* of REAPED */
} piso__zygote_packet;

/* piso__zygote_new: the zygote that this process is; takes both, unless it returns NULL (no memory). */
piso_zygote *piso__zygote_new(piso_process *process, int socket_fd);
/* piso__zygote_fork: a child of the zygote, with descriptors 0 to 2 and the channel; waits for the zygote to be ready, and
 * to answer. The pid and its pidfd, or -EBUSY (threads), PISO_EDIED, another negative code: with spawn->execute also that of
 * a failed exec, or PISO_ESANDBOX, of which the report tells. */
pid_t piso__zygote_fork(const piso_spawn *spawn, const int stdio[3], int channel_fd, piso__sandbox *sandbox,
                        int *ret_pidfd);
/* piso__zygote_as_parent: of the children that it forks; the same reference. */
piso__parent *piso__zygote_as_parent(piso_zygote *z);

/* ---- for the monitor, which holds a reference that does not keep the zygote running ---- */

piso_zygote *piso__zygote_hold(piso_zygote *z);
piso_zygote *piso__zygote_release(piso_zygote *z);
/* piso__zygote_socket: of a zygote that has not ended for the monitor. */
int piso__zygote_socket(const piso_zygote *z);
/* piso__zygote_close_fd: as piso__process_close_fds. */
void piso__zygote_close_fd(piso_zygote *z);
/* piso__zygote_hear: the next packet. 1: a child was reaped: *ret_pid, and *ret_exit, which may be not known; 0: nothing to
 * tell now; a negative code: it was its last. */
int piso__zygote_hear(piso_zygote *z, pid_t *ret_pid, piso_exit *ret_exit);
/* piso__zygote_end: it is not heard any more: tells those who wait, closes the socket, and kills it, unless it has closed
 * the socket itself (-ECONNRESET): then it ends when its children have ended. */
void piso__zygote_end(piso_zygote *z, int error);

/* piso__fork_block_new: name, cwd, argv, envp (with PISO_FD) and a prepared sandbox, or NULL, in a memfd. The fd or
 * -errno. */
int piso__fork_block_new(const piso_spawn *spawn, const piso__sandbox *sandbox);
/* piso__fork_block_read: what such a memfd says. *ret_cwd: a string in it, or NULL. 0, PISO_EPROTO, -errno. */
int piso__fork_block_read(int fd, piso_fork *ret_fork, const char **ret_cwd);

/* piso__fork_block_fail: in a child that could not execute its program, because of this error, in a layer of its sandbox or
 * not (-1): for the host. piso__fork_block_failure: that error, 0 if there was none. */
void piso__fork_block_fail(int fd, int error, int layer);
int piso__fork_block_failure(int fd, int *ret_layer);

#endif
