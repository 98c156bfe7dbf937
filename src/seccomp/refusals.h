/* refusals.h - what a confined process was refused by its filter of system calls, as the host comes to know it.
 *
 * Rules:
 *  1. The host and the child have a pair of sockets. The child finds its Landlock ruleset in its end, loads the filter,
 *     sends back the listener that belongs to it and closes its own, before anything of the extension runs: whoever has
 *     a listener can permit what the filter refuses.
 *  2. A thread of the host, one for all, without Python's lock, answers each refused call with the error that the filter
 *     has for it, and records it. It permits nothing but calls on threads of the caller's own process, whose only
 *     arguments that matter are in registers.
 *  3. The process waits for the answer, the host for nothing. After PISO__REFUSALS_FAST questions a process is answered
 *     more slowly, whatever the answers are, so that it cannot keep the thread busy; after piso__refusals_most not at all.
 *  4. Where no listener can be had, because another one watches the host already, calls are refused all the same. */
#ifndef PISO_SECCOMP_REFUSALS_H
#define PISO_SECCOMP_REFUSALS_H

#include <linux/filter.h>

#include "base/base.h"

#define PISO__REFUSALS_FAST 1000
/* Questions after which nobody listens to a process any more: it gets ENOSYS. Lowered by tests. */
extern _Atomic uint64_t piso__refusals_most;

typedef struct piso__refusals piso__refusals;

/* piso__refusals_new: for one child with this program. *ret_fd: the child's end, with the ruleset in it if that is not
 * -1; the caller's. 0 or -errno. */
int piso__refusals_new(const struct sock_filter *program, int count, int ruleset_fd, piso__refusals **ret_refusals,
                       int *ret_fd);
piso__refusals *piso__refusals_unref(piso__refusals *r);
/* piso__refusals_watch: answers from now on, until all processes with this filter have ended. On failure the listener is
 * lost, and what is refused is not known. */
int piso__refusals_watch(piso__refusals *r);
/* piso__refusals_total: how many calls were refused; -EAGAIN: there is no listener yet; -ENOSYS: there is none. */
int64_t piso__refusals_total(piso__refusals *r);
/* piso__refusals_read: copies the kinds, at most `count`, in the order of the first of each; how many. */
size_t piso__refusals_read(piso__refusals *r, piso_refusal *ret_kinds, size_t count);

/* ---- in the child, by bare system calls ---- */

/* piso__refusals_take_ruleset: the descriptor that is in the socket, or -errno. */
int piso__refusals_take_ruleset(int fd);
/* piso__refusals_load: loads the filter with a listener and sends it, or without. 0 or -errno. */
int piso__refusals_load(int fd, struct sock_filter *program, uint32_t count);

#endif
