/* process.h - the life of a child process: spawn, watch, reap, last words.
 *
 * Rules:
 *  1. A child is spawned in a process group of its own, with exactly the descriptors 0 (/dev/null), 1 and 2
 *     (pipes to us) and PISO_FD (the channel's socket); everything else is closed (close_range), signal mask
 *     and dispositions are reset. An exec that fails is reported by piso__process_spawn
 *     itself (-errno).
 *  2. One monitor thread per host process (started on first spawn, blocked signals) waits in epoll on the
 *     pidfds and output pipes of all children. It alone reaps, with waitid(P_PIDFD); a child reaped by somebody
 *     else is reported with known = false.
 *  3. When a child has ended, the monitor drains its pipes of what is there now (grandchildren may hold them
 *     open: that is not waited for), then records the status, then makes exit_fd readable, for ever. The pipes
 *     are emptied whether or not anybody reads: no child waits for a reader.
 *  4. The group of an ended child is killed (SIGKILL): grandchildren die with it. So does all that is in its control
 *     group, if it has one (sandbox/group.h), also what has left the process group.
 *  5. Objects know their pid: after fork every function returns PISO_EFORKED and the destructors free memory
 *     only. The monitor thread does not exist in a forked child.
 *  6. Objects are reference-counted; the last unref of a running process leaves it to the monitor, which reaps
 *     it when it ends. All functions are thread-safe. */
#ifndef PISO_SUPERVISOR_PROCESS_H
#define PISO_SUPERVISOR_PROCESS_H

#include "base/base.h"

#define PISO__STDERR_TAIL 8192

/* piso__process_spawn: runs spawn->argv; the child gets channel_fd (kept close-on-exec here, the caller closes
 * its copy) under the number told in PISO_FD. */
int piso__process_spawn(const piso_spawn *spawn, int channel_fd, piso_process **ret_process);
piso_process *piso__process_ref(piso_process *p);
piso_process *piso__process_unref(piso_process *p);
/* piso__process_exit_fd: an eventfd that is readable once the process has ended (status and stderr tail are
 * then complete) and stays so: poll it, never read it. Borrowed. */
int piso__process_exit_fd(const piso_process *p);
/* piso__process_ended: whether the monitor has recorded the end. Reads memory only. */
bool piso__process_ended(const piso_process *p);

/* piso__watch_host: in the child: a small C thread (all signals blocked) waits on `socket_fd` for hang-up and
 * on the pidfd of the parent, and when the host is gone kills the process group of this process (SIGKILL).
 * Not when the process forked from this one exits. Also handles the race where the host was gone before. */
int piso__watch_host(int socket_fd);
/* piso__is_watched: whether this process has that thread. */
bool piso__is_watched(void);

#endif
