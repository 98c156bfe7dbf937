/* zygote.h - processes that fork children. */
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

/* A zygote is a process that has loaded what its children need and forks them on request. The children start in
 * milliseconds and share its memory, or execute a program (piso_spawn.execute). The host treats a forked child
 * like any other: piso_session_spawn with the field `zygote` set. The first block of functions is for the host,
 * the second for the zygote. */

/* piso_zygote_spawn: starts the zygote's program, as piso_session_spawn starts a child's. PISO_FD names its
 * socket to the host. The zygote dies with the host. Does not wait for it. */
PISO_API int piso_zygote_spawn(const piso_spawn *spawn, piso_zygote **ret_zygote);
PISO_API piso_zygote *piso_zygote_ref(piso_zygote *z);
/* piso_zygote_unref: drops a reference. After the last one, processes that its children left behind are killed
 * and the zygote ends. Each running child holds a reference. */
PISO_API piso_zygote *piso_zygote_unref(piso_zygote *z);
/* piso_zygote_ready: waits until the zygote can fork and returns its report, which is valid as long as the
 * zygote object. Blocks up to timeout_ns (-1: for ever). 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED,
 * PISO_EPROTO. */
PISO_API int piso_zygote_ready(piso_zygote *z, int64_t timeout_ns, const void **ret_report, size_t *ret_size);
/* piso_zygote_close: kills the zygote's process. Children that it forked live on. Their exit status is known
 * only where the kernel reports it (Linux 6.15 and later), and processes that leave their process group outlive
 * them. */
PISO_API void piso_zygote_close(piso_zygote *z);
/* piso_zygote_process: returns the zygote's own process, borrowed. */
PISO_API piso_process *piso_zygote_process(piso_zygote *z);
/* piso_fork_hooks: what a runtime must do around a fork, in this thread. Each may be NULL. */
typedef struct piso_fork_hooks {
    size_t size; /* sizeof(piso_fork_hooks) */
    void (*before)(void);
    void (*in_parent)(void);
    void (*in_child)(void);
} piso_fork_hooks;
/* piso_fork: what a forked child was asked to be, as in the host's piso_spawn. envp includes PISO_FD.
 * piso_fork_fini frees it. */
typedef struct piso_fork {
    size_t size; /* sizeof(piso_fork) */
    const char *name;
    const char *const *argv, *const *envp;
    void *block; /* private, like the fields below */
    size_t block_size, sandbox_size;
    const void *sandbox;
    bool execute; /* never set in what piso_zygote_serve returns */
} piso_fork;
PISO_API void piso_fork_fini(piso_fork *fork);
/* piso_zygote_guard: called in the zygote before it loads anything. From now on the kernel kills it when the
 * host dies. */
PISO_API int piso_zygote_guard(int socket_fd);
/* piso_zygote_report: sends `report`, at most 64 KiB, to the host: the zygote is ready to fork. -EBUSY unless
 * the process has a single thread. */
PISO_API int piso_zygote_report(int socket_fd, const void *report, size_t size);
/* piso_zygote_serve: forks children on the host's request. Returns 1 in each child. The child leads its own
 * process group; has the descriptors 0 to 2 and PISO_FD and no others; is in the host's current working
 * directory (or the requested one); and has no blocked signals. Returns 0 in the zygote when the host has
 * closed it or died, or when there was no request for idle_ns (-1: for ever) and there is no child. Returns
 * -EINTR (call again) and other errors in the zygote. A zygote with more than one thread refuses to fork; the
 * host's piso_session_spawn then returns -EBUSY. */
PISO_API int piso_zygote_serve(int socket_fd, const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork);
/* piso_zygote_share: called in the zygote when everything is loaded. Its children can then give back, by
 * piso_fork_settle, the pages that they touched but did not change. Moves all private memory of the process. 0,
 * or -errno: nothing was moved, and children will need more memory; -EINVAL also where pages are not of 4 KiB.
 * Where a move fails half-way the process is killed (SIGKILL), since its memory is incomplete: start another
 * zygote, which does not call this. */
PISO_API int piso_zygote_share(void);
/* piso_fork_settle: called once in a child, when it has become idle. Gives back to the zygote the pages whose
 * contents are as before the fork. Takes a millisecond or two. Does nothing if there are threads besides the
 * caller and the one that piso_session_attach starts. Returns how many pages, of 4 KiB. */
PISO_API int piso_fork_settle(void);

#ifdef __cplusplus
}
#endif

#endif
