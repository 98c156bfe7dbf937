/* zygote.h - processes that fork others. */
#ifndef PISO_ZYGOTE_H
#define PISO_ZYGOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/process.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A zygote is a process that has loaded what its children need and forks them on request: they start in
 * milliseconds and share its memory, or execute a program (piso_spawn.execute). For its host, a forked child is like any other: piso_session_spawn with
 * the field `zygote` set. The host's side is the first block of functions, the zygote's own the second. */

/* piso_zygote_spawn: starts the zygote's program, as piso_session_spawn starts a child's; PISO_FD is the number of
 * its socket to the host. It dies with the host. Does not wait for it. */
PISO_API int piso_zygote_spawn(const piso_spawn *spawn, piso_zygote **ret_zygote);
PISO_API piso_zygote *piso_zygote_ref(piso_zygote *z);
/* piso_zygote_unref: with the last one the zygote ends, after what its children have left behind has been killed. Its
 * running children hold one each. */
PISO_API piso_zygote *piso_zygote_unref(piso_zygote *z);
/* piso_zygote_ready: waits until it can fork and returns what it reported, which is valid as long as the zygote
 * object. Blocks up to timeout_ns (-1: for ever). 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED, PISO_EPROTO. */
PISO_API int piso_zygote_ready(piso_zygote *z, int64_t timeout_ns, const void **ret_report, size_t *ret_size);
/* piso_zygote_close: kills the zygote's process. Children that it has forked live on; how they end is known only
 * where the kernel tells (Linux 6.15 and later), and what leaves their process group outlives them. */
PISO_API void piso_zygote_close(piso_zygote *z);
/* piso_zygote_process: the zygote's own process, borrowed. */
PISO_API piso_process *piso_zygote_process(piso_zygote *z);
/* piso_fork_hooks: what a runtime has to do around a fork, in this thread; each may be NULL. */
typedef struct piso_fork_hooks {
    size_t size; /* sizeof(piso_fork_hooks) */
    void (*before)(void);
    void (*in_parent)(void);
    void (*in_child)(void);
} piso_fork_hooks;
/* piso_fork: what a forked child was asked to be, as in the host's piso_spawn; envp includes PISO_FD. Freed by
 * piso_fork_fini. */
typedef struct piso_fork {
    size_t size; /* sizeof(piso_fork) */
    const char *name;
    const char *const *argv, *const *envp;
    void *block; /* private, like the rest */
    size_t block_size, sandbox_size;
    const void *sandbox;
    bool execute; /* never in what piso_zygote_serve returns */
} piso_fork;
PISO_API void piso_fork_fini(piso_fork *fork);
/* piso_zygote_guard: in the zygote, before it loads anything: from now on it is killed when the host dies. */
PISO_API int piso_zygote_guard(int socket_fd);
/* piso_zygote_report: the zygote is ready to fork; `report`, at most 64 KiB, goes to the host. The process must
 * have a single thread now, else -EBUSY. */
PISO_API int piso_zygote_report(int socket_fd, const void *report, size_t size);
/* piso_zygote_serve: forks children as the host asks for them. Returns 1 in each child, which leads a process group
 * of its own, has the descriptors 0 to 2 and PISO_FD and no others, the host's current working directory (or the
 * one asked for), and no blocked signals; 0 in the zygote when the host has closed it or died, or when it has asked for
 * nothing for idle_ns (-1: for ever) and there is no child; -EINTR (call again) and other errors in the zygote. A zygote
 * that has more than one thread refuses to fork, which the host sees as -EBUSY of piso_session_spawn. */
PISO_API int piso_zygote_serve(int socket_fd, const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork);
/* piso_zygote_share: in the zygote, when everything is loaded: lets its children give back what they touched but did not
 * change, with piso_fork_settle. Moves all private memory of the process. 0, or -errno: nothing was moved, and children
 * will need more memory; -EINVAL also where pages are not of 4 KiB. Where a move fails half-way the process is killed
 * (SIGKILL), since its memory is no longer whole: start another zygote, which does not call this. */
PISO_API int piso_zygote_share(void);
/* piso_fork_settle: in a child, once, when it has become idle: gives back to the zygote the pages that hold what they
 * held before the fork. Takes a millisecond or two. Does nothing if there are threads besides the caller and the one
 * that piso_session_attach starts. Returns how many pages, of 4 KiB. */
PISO_API int piso_fork_settle(void);

#ifdef __cplusplus
}
#endif

#endif
