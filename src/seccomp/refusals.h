/* refusals.h - how the host learns which calls the filter has refused to a confined process.
 *
 * Rules:
 *  1. The host and the child have a pair of sockets. The child finds its Landlock ruleset in its end. It loads
 *     the filter, sends the filter's listener back and closes its own copy, before any code of the extension
 *     runs: a process with the listener could permit what the filter refuses.
 *  2. One thread of the host serves all children, without Python's lock. It answers each refused call with the
 *     error that the filter has for it, and records it. It permits nothing but calls on threads of the caller's
 *     own process whose relevant arguments are all in registers.
 *  3. The process waits for the answer; the host waits for nothing. After PISO__REFUSALS_FAST questions the
 *     thread answers a process more slowly, whatever the answers are, so that the process cannot keep it busy;
 *     after piso__refusals_most it does not answer at all.
 *  4. Where no listener can be had, because another one watches the host already, calls are refused all the same. */
#ifndef PISO_SECCOMP_REFUSALS_H
#define PISO_SECCOMP_REFUSALS_H

#include <linux/filter.h>

#include "base/base.h"

#define PISO__REFUSALS_FAST 1000
/* After so many questions nobody listens to a process any more, and its refused calls get ENOSYS. Tests lower
 * it. */
extern _Atomic uint64_t piso__refusals_most;

typedef struct piso__refusals piso__refusals;

/* piso__refusals_new: makes the refusals of one child with this program. *ret_fd: the child's end, which the
 * caller owns, with the ruleset in it unless that is -1. 0 or -errno. */
int piso__refusals_new(const struct sock_filter *program, int count, int ruleset_fd, piso__refusals **ret_refusals,
                       int *ret_fd);
piso__refusals *piso__refusals_unref(piso__refusals *r);
/* piso__refusals_watch: answers from now on, until all processes with this filter have ended. On failure the
 * listener is lost, and refusals are unknown. */
int piso__refusals_watch(piso__refusals *r);
/* piso__refusals_total: returns how many calls were refused; -EAGAIN: there is no listener yet; -ENOSYS: there
 * is none. */
int64_t piso__refusals_total(piso__refusals *r);
/* piso__refusals_read: copies at most `count` kinds, in the order of their first refusal, and returns how many. */
size_t piso__refusals_read(piso__refusals *r, piso_refusal *ret_kinds, size_t count);

/* ---- in the child, by bare system calls ---- */

/* piso__refusals_take_ruleset: receives the descriptor that is in the socket. Returns it, or -errno. */
int piso__refusals_take_ruleset(int fd);
/* piso__refusals_load: loads the filter, with a listener that it sends, or without. 0 or -errno. */
int piso__refusals_load(int fd, struct sock_filter *program, uint32_t count);

#endif
