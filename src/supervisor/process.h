/* process.h - the life of a child process: spawn, watch, reap, last words.
 *
 * Rules:
 *  1. A child is spawned in a process group of its own, with exactly the descriptors 0 (/dev/null), 1 and 2
 *     (pipes to us) and PISO_FD (the channel's socket); everything else is closed (close_range), signal mask
 *     and dispositions are reset. An exec that fails is reported by piso__process_spawn
 *     itself (-errno).
 *  2. One monitor thread per host process (started on first spawn, blocked signals) waits in epoll on the
 *     pidfds and output pipes of all children, and on the sockets of zygotes. It alone reaps, with waitid(P_PIDFD); a
 *     child reaped by somebody else is reported with known = false. What a zygote has forked is the zygote's to reap: it
 *     is asked how the child ended, and answers when it can (zygote.h).
 *  3. When a child has ended, the monitor drains its pipes of what is there now (grandchildren may hold them
 *     open: that is not waited for), then records the status, then says that it has ended, for ever. The pipes
 *     are emptied whether or not anybody reads: no child waits for a reader.
 *  4. The group of an ended child is killed (SIGKILL): grandchildren die with it. So does all that is in its control
 *     group, if it has one (group/group.h), also what has left the process group; and what a zygote's child has left
 *     behind (keeper.h).
 *  5. Objects know their pid: after fork every function returns PISO_EFORKED and the destructors free memory
 *     only. The monitor thread does not exist in a forked child; what it watched is closed there at once.
 *  6. Objects are reference-counted; the last unref of a running process leaves it to the monitor, which reaps
 *     it when it ends. All functions are thread-safe.
 *  7. A process costs its host four descriptors while it runs, pidfd, two pipes and the listener of its
 *     sandbox, and none once it has ended.
 *
 * Whom the host waits for. Any process but the host may be stopped (SIGSTOP, a debugger, a frozen group, a disk that does
 * not answer) for as long as it likes. So:
 *
 *     No thread waits for another process while it holds a lock, or while it is the only one that can serve others.
 *     Who waits because a caller asked for it has a deadline, and nobody else waits for it.
 *
 * All places where a process of the host waits for another one:
 *
 *     where                            for whom                   how long                    who else is held up
 *     the monitor                      nobody: pidfds, pipes and sockets are in its epoll; it never waits for an answer
 *     how a zygote's child has ended   the zygote, which kills    a second, in the monitor's  nobody
 *                                      what it has left behind    epoll; then what the system
 *                                                                 tells, or known = false
 *     a control group's end            what is killed in it       milliseconds before the end nobody: a thread of its own
 *                                                                 is told, then a minute
 *     groups of dead hosts             what is killed in them     milliseconds for each       nobody: a thread of its own
 *     piso_session_spawn, executed     the child, up to its exec  as long as exec takes       nobody
 *     piso_session_spawn, forked       the zygote: to be ready    two minutes                 nobody
 *                                      the zygote: to fork        ten seconds, then it is     nobody
 *                                                                 given up (PISO_EDIED)
 *     a child of it that executes      the child, up to its exec  a minute, then it is killed nobody
 *     the first sandbox of a process   two trial children         as long as they run         nobody
 *     a child that cannot be watched   the child, killed          a second                    nobody
 *     piso_zygote_ready, piso_process_wait, piso_session_handshake, piso_session_wait: the caller's timeout; nobody
 *     sockets, bells, echoed output    nobody: a send never waits (MSG_DONTWAIT); what does not fit is an error, or
 *                                      dropped
 *     piso_session_attach, in a child  the host, which has sent the greeting before
 *     piso_zygote_serve                the host: for ever, that is its work; when that has gone: what it kills, a minute */
#ifndef PISO_SUPERVISOR_PROCESS_H
#define PISO_SUPERVISOR_PROCESS_H

#include "base/base.h"

#define PISO__STDERR_TAIL 16384 /* a stack of a hundred frames, and the names of modules */

/* piso__process_spawn: runs spawn->argv; the child gets channel_fd (kept close-on-exec here, the caller closes
 * its copy) under the number told in PISO_FD. */
int piso__process_spawn(const piso_spawn *spawn, int channel_fd, piso_process **ret_process);
piso_process *piso__process_ref(piso_process *p);
piso_process *piso__process_unref(piso_process *p);
/* piso__process_ended: whether the monitor has recorded the end. Reads memory only. */
bool piso__process_ended(const piso_process *p);
/* piso__process_on_end: once the process has ended (status and stderr tail are then complete), and at once if it has,
 * the beacon in this epoll is switched on, and stays so. One epoll; -1: none any more, before it is closed. */
void piso__process_on_end(piso_process *p, int epoll_fd, int beacon_fd);

/* piso__watch_host: in the child: a small C thread (all signals blocked) waits on `socket_fd` for hang-up and
 * on the pidfd of the parent, and when the host is gone kills the process group of this process (SIGKILL).
 * Not when the process forked from this one exits. Also handles the race where the host was gone before. */
int piso__watch_host(int socket_fd);
/* piso__is_watched: whether this process has that thread. */
bool piso__is_watched(void);

#endif
