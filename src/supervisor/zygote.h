/* zygote.h - a prewarmed process that forks children, from both sides.
 *
 * Host and zygote communicate over a SOCK_SEQPACKET pair. The zygote inherits one end:
 *
 *     zygote -> host   READY size, followed by so many bytes, its report
 *     host -> zygote   FORK, with descriptors: a socket for the answer, block, directory, stdin, stdout, stderr,
 *                      channel, and other descriptors for the child
 *     zygote           answers on that socket: FORKED pid with its pidfd, or -errno
 *     child            if it executes a program: closes the same socket by the exec, or by its end; then the block
 *                      contains the failure
 *     host -> zygote   REAP pid
 *     zygote -> host   REAPED pid: 1 with the status, or -errno; when what the child has left behind is gone (keeper.h)
 *
 * Rules:
 *  1. A thread that waits for an answer holds no lock. So any number of threads may ask, and a zygote that is
 *     stopped blocks only those that want a child of it. Each fork has its own socket for the answer: answers
 *     cannot be mixed up, and when the zygote ends the socket hangs up. The monitor reads the zygote's own
 *     socket (process.h); only threads that wait for READY wait for that.
 *  2. A zygote that does not fork in time gets no more requests: the host shuts the socket down, and the zygote
 *     looks after the children that it has when it continues. One that sends something malformed is killed. One
 *     that does not reap in time is left alone: the child's end is reported without it, and it reaps when it
 *     continues.
 *  3. The zygote has one thread, which is checked before each fork: no child ever inherits half of a thread pool.
 *  4. The zygote reaps a child only on the host's request, after the host has killed the child's group. Until
 *     then the number of the group belongs to the child, exactly as if the host were its parent.
 *  5. A child closes the zygote's socket before anything else runs in it, so no extension ever has it.
 *  6. The zygote dies with the host: by a signal of the kernel while it loads, by its own poll of the host's
 *     pidfd when it serves; then it kills its children and everything that they have started before it ends.
 *     Its children also watch the host themselves (watch.c). When a zygote is killed, its children continue,
 *     and nobody adopts their orphans. When its host has closed the socket it stays until its children have
 *     ended. It also ends when the host has not asked for anything for a while and there is no child; a host
 *     that asks at that moment sees it as dead, and starts another.
 *  7. Objects know their process: after a fork of the host every function returns PISO_EFORKED. */
#ifndef PISO_SUPERVISOR_ZYGOTE_H
#define PISO_SUPERVISOR_ZYGOTE_H

#include <sys/types.h>

#include "base/base.h"
#include "sandbox/sandbox.h"
#include "supervisor/parent.h"

#define PISO__ZYGOTE_MAGIC  0x5a534950u /* "PISZ" */
#define PISO__ZYGOTE_REPORT (64 << 10)

/* The descriptors of a child, in this order. Until it is set up, further ones are its descriptors 4, 5, ... */
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
    int32_t pid, code, signal; /* in REAPED */
} piso__zygote_packet;

/* piso__zygote_new: makes the object of a running zygote. Takes both arguments, unless it returns NULL (no
 * memory). */
piso_zygote *piso__zygote_new(piso_process *process, int socket_fd);
/* piso__zygote_fork: forks a child of the zygote, with descriptors 0 to 2 and the channel. Waits for the zygote
 * to be ready, and for its answer. Returns the pid and its pidfd; -EBUSY (threads), PISO_EDIED, or another
 * negative code. With spawn->execute also the code of a failed exec, or PISO_ESANDBOX, with the report. */
pid_t piso__zygote_fork(const piso_spawn *spawn, const int stdio[3], int channel_fd, piso__sandbox *sandbox,
                        int *ret_pidfd);
/* piso__zygote_as_parent: returns it as the parent of the children that it forks, with the same reference. */
piso__parent *piso__zygote_as_parent(piso_zygote *z);

/* ---- for the monitor, which holds a reference that does not keep the zygote running ---- */

piso_zygote *piso__zygote_hold(piso_zygote *z);
piso_zygote *piso__zygote_release(piso_zygote *z);
/* piso__zygote_socket: returns the socket of a zygote that has not ended for the monitor. */
int piso__zygote_socket(const piso_zygote *z);
/* piso__zygote_close_fd: closes the socket, as piso__process_close_fds does. */
void piso__zygote_close_fd(piso_zygote *z);
/* piso__zygote_receive: reads the next packet. 1: a child was reaped: *ret_pid, and *ret_exit, which may be
 * unknown; 0: nothing to report now; a negative code: that was its last packet. */
int piso__zygote_receive(piso_zygote *z, pid_t *ret_pid, piso_exit *ret_exit);
/* piso__zygote_end: called when it is not read any more. Wakes the waiting threads, closes the socket, and
 * kills it, unless it has closed the socket itself (-ECONNRESET): then it ends when its children have ended. */
void piso__zygote_end(piso_zygote *z, int error);

/* piso__fork_block_new: writes name, cwd, argv, envp (with PISO_FD) and a prepared sandbox, or NULL, to a
 * memfd. Returns the fd or -errno. */
int piso__fork_block_new(const piso_spawn *spawn, const piso__sandbox *sandbox);
/* piso__fork_block_read: reads such a memfd. *ret_cwd: a string in it, or NULL. 0, PISO_EPROTO, -errno. */
int piso__fork_block_read(int fd, piso_fork *ret_fork, const char **ret_cwd);

/* piso__fork_block_fail: reports to the host, from a child that could not execute its program, the error and
 * the layer of its sandbox that failed (-1: none did). piso__fork_block_failure: returns that error, 0 if there
 * was none. */
void piso__fork_block_fail(int fd, int error, int layer);
int piso__fork_block_failure(int fd, int *ret_layer);

#endif
