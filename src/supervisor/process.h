/* process.h - the life of a child process: spawn, watch, reap, last words.
 *
 * Rules:
 *  1. A child is spawned in its own process group, with exactly the descriptors 0 (/dev/null), 1 and 2 (pipes
 *     to us) and PISO_FD (the channel's socket). Everything else is closed (close_range); signal mask and
 *     dispositions are reset. piso__process_spawn itself reports an exec that fails (-errno).
 *  2. One monitor thread per host process (started on first spawn, all signals blocked) waits in epoll on the
 *     pidfds and output pipes of all children, and on the sockets of zygotes. It alone reaps, with
 *     waitid(P_PIDFD). A child that another part of the process has reaped is reported with known = false. A
 *     zygote reaps the children that it has forked: it is asked how the child ended, and answers when it can
 *     (zygote.h).
 *  3. When a child has ended, the monitor reads what is in its pipes now (grandchildren may keep them open; it
 *     does not wait for those), then records the status, then reports the end, for ever. The pipes are emptied
 *     whether or not anybody reads: no child waits for a reader.
 *  4. The group of an ended child is killed (SIGKILL), so grandchildren die with it. So do all processes in its
 *     control group, if it has one (group/group.h), including those that have left the process group; and the
 *     processes that a zygote's child has left behind (keeper.h).
 *  5. Objects know their pid: after a fork every function returns PISO_EFORKED and the destructors only free
 *     memory. The monitor thread does not exist in a forked child; what it watched is closed there at once.
 *  6. Objects are reference-counted. The last unref of a running process leaves it to the monitor, which reaps
 *     it when it ends. All functions are thread-safe.
 *  7. A process costs its host four descriptors while it runs (pidfd, two pipes and the listener of its
 *     sandbox), and none once it has ended.
 *
 * What the host waits for. Any process but the host may be stopped (SIGSTOP, a debugger, a frozen group, a disk
 * that does not answer) for as long as it likes. So:
 *
 *     No thread waits for another process while it holds a lock, or while it is the only one that can serve others.
 *     A thread that waits on behalf of a caller has a deadline, and no other thread waits for it.
 *
 * All places where a process of the host waits for another one:
 *
 *     where                            for which process          how long                    who else is blocked
 *     the monitor                      none: pidfds, pipes and sockets are in its epoll; it never waits for an answer
 *     how a zygote's child has ended   the zygote, which kills    a second, in the monitor's  nobody
 *                                      what it has left behind    epoll; then the system's
 *                                                                 report, or known = false
 *     a control group's end            what is killed in it       milliseconds before the end nobody: its own thread
 *                                                                 is reported, then a minute
 *     groups of dead hosts             what is killed in them     milliseconds for each       nobody: its own thread
 *     piso_session_spawn, executed     the child, up to its exec  as long as exec takes       nobody
 *     piso_session_spawn, forked       the zygote: to be ready    two minutes                 nobody
 *                                      the zygote: to fork        ten seconds, then it is     nobody
 *                                                                 given up (PISO_EDIED)
 *     a child of it that executes      the child, up to its exec  a minute, then it is killed nobody
 *     the first sandbox of a process   two trial children         as long as they run         nobody
 *     a child that cannot be watched   the child, killed          a second                    nobody
 *     piso_zygote_ready, piso_process_wait, piso_session_handshake, piso_session_wait: the caller's timeout; nobody
 *     sockets, bells, echoed output    none: a send never waits (MSG_DONTWAIT); what does not fit is an error, or
 *                                      dropped
 *     piso_session_attach, in a child  the host, which has sent the greeting before
 *     piso_zygote_serve                the host, for ever; after the host's end: what it kills, a minute */
#ifndef PISO_SUPERVISOR_PROCESS_H
#define PISO_SUPERVISOR_PROCESS_H

#include "base/base.h"

#define PISO__STDERR_TAIL 16384 /* room for a stack of a hundred frames and the names of modules */

/* piso__process_spawn: runs spawn->argv. The child gets channel_fd, under the number in PISO_FD; it stays
 * close-on-exec here, and the caller closes its copy. */
int piso__process_spawn(const piso_spawn *spawn, int channel_fd, piso_process **ret_process);
piso_process *piso__process_ref(piso_process *p);
piso_process *piso__process_unref(piso_process *p);
/* piso__process_ended: whether the monitor has recorded the end. Only reads memory. */
bool piso__process_ended(const piso_process *p);
/* piso__process_on_end: enables the beacon in this epoll once the process has ended (status and stderr tail are
 * then complete), or at once if it has already. The beacon stays enabled. There is one epoll; -1 removes it,
 * and must be called before it is closed. */
void piso__process_on_end(piso_process *p, int epoll_fd, int beacon_fd);

/* piso__watch_host: called in the child. Starts a small C thread (all signals blocked), which waits for a
 * hang-up of `socket_fd` and on the host's pidfd. When the host is gone it kills this process's group
 * (SIGKILL); not when a process forked from this one exits. Also handles a host that was gone before. */
int piso__watch_host(int socket_fd);
/* piso__is_watched: whether this process has that thread. */
bool piso__is_watched(void);

#endif
