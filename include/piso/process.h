/* process.h - the process of a child: what to run, how it ends. Its sandbox: sandbox.h; what it writes: output.h. */
#ifndef PISO_PROCESS_H
#define PISO_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/sandbox.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_exit: how a process ended. */
typedef struct piso_exit {
    bool known; /* false: somebody else reaped it */
    int code;   /* exit status, or -1 */
    int signal; /* number of the signal that killed it, or 0 */
} piso_exit;

/* piso_spawn: what to run. All pointers are only read during piso_session_spawn; `report` is filled in it. */
typedef struct piso_spawn {
    size_t size;                 /* sizeof(piso_spawn) */
    const char *const *argv;     /* argv[0] is the path of the program */
    const char *const *envp;     /* the whole environment. PISO_FD=<n> is added: the channel's descriptor */
    const char *cwd;             /* or NULL */
    const char *name;            /* for messages and memfd names */
    size_t arena_size;           /* virtual bytes of each direction's arena; 0: the default (64 GiB) */
    uint32_t max_requests;       /* of the child that are answered at once; 0: 4096. More wait on the child's side */
    bool echo_stdout;            /* pass the child's stdout on to this process's own, as far as that takes it at once */
    bool echo_stderr;            /* the same for stderr */
    bool inherit_stdout;         /* do not capture stdout: the child's is this process's own */
    piso_zygote *zygote;         /* or NULL: forks the child instead of running argv[0]; only borrowed */
    bool execute;                /* with a zygote: the child runs argv[0] after all, with the zygote as its parent */
    const piso_sandbox *sandbox; /* NULL: the child is not confined */
    piso_sandbox_report *report; /* NULL, or what became of the sandbox, also when that is PISO_ESANDBOX */
} piso_spawn;

PISO_API int piso_process_pid(const piso_process *p);
/* piso_process_memory_exceeded: of a process that was killed because its control group reached its limit of memory: that
 * limit, in bytes; else 0. Known once piso_process_wait has returned 1. */
PISO_API uint64_t piso_process_memory_exceeded(const piso_process *p);
/* piso_process_wait: 1 and the status when it has ended, 0 when timeout_ns (-1: for ever) went by first, -EINTR
 * (call again). */
PISO_API int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit);
/* piso_process_kill: sends a signal to the process group of the child; -ESRCH when it has ended. */
PISO_API int piso_process_kill(piso_process *p, int signal);
/* piso_process_stderr: copies the last bytes of its stderr (whole lines where possible) to buffer, returns
 * how many. After piso_process_wait has returned 1 it is complete. */
PISO_API size_t piso_process_stderr(piso_process *p, char *buffer, size_t size);
/* piso_process_title: what tools that list processes show for this one. As far as there is room. */
PISO_API void piso_process_title(const char *title);
/* piso_fork_generation: a number that differs in a process forked from this one, and in its children. Reads memory only. */
PISO_API uint32_t piso_fork_generation(void);

#ifdef __cplusplus
}
#endif

#endif
