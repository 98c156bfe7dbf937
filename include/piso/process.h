/* process.h - the process of a child: what it runs and how it ends. See sandbox.h for its sandbox and output.h
 * for its output. */
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
    bool known; /* false: another part of this process reaped it */
    int code;   /* exit status, or -1 */
    int signal; /* number of the signal that killed it, or 0 */
} piso_exit;

/* piso_spawn: what to run. All pointers are only read during piso_session_spawn, which also fills `report`. */
typedef struct piso_spawn {
    size_t size;             /* sizeof(piso_spawn) */
    const char *const *argv; /* argv[0] is the path of the program */
    const char *const *envp; /* the whole environment. PISO_FD=<n>, the channel's descriptor, is added */
    const char *cwd;         /* the working directory, or NULL */
    const char *name;        /* for messages and memfd names */
    size_t arena_size;       /* virtual bytes of each direction's arena; 0: the default (64 GiB) */
    /* how many of the child's requests are answered at once; 0: 4096. Further ones wait on the child's side */
    uint32_t max_requests;
    /* pass the child's stdout on to this process's stdout, as far as that accepts it without blocking */
    bool echo_stdout;
    bool echo_stderr;    /* the same for stderr */
    bool inherit_stdout; /* do not capture stdout: the child writes to this process's stdout */
    piso_zygote *zygote; /* if not NULL, this zygote forks the child instead of running argv[0]; borrowed */
    /* with a zygote: the child runs argv[0] all the same, and the zygote is its parent */
    bool execute;
    const piso_sandbox *sandbox; /* NULL: the child is not confined */
    piso_sandbox_report *report; /* NULL, or gets the state of the sandbox, also with PISO_ESANDBOX */
} piso_spawn;

PISO_API int piso_process_pid(const piso_process *p);
/* piso_process_memory_exceeded: returns the memory limit in bytes if the process was killed because its control
 * group reached that limit, else 0. Known once piso_process_wait has returned 1. */
PISO_API uint64_t piso_process_memory_exceeded(const piso_process *p);
/* piso_process_wait: waits for the end of the process. 1 with the status; 0 when it has not ended within
 * timeout_ns (-1: for ever); -EINTR (call again). */
PISO_API int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit);
/* piso_process_kill: sends a signal to the child's process group. -ESRCH when the child has ended. */
PISO_API int piso_process_kill(piso_process *p, int signal);
/* piso_process_stderr: copies the last bytes of the child's stderr (whole lines where possible) to the buffer,
 * and returns how many. They are complete after piso_process_wait has returned 1. */
PISO_API size_t piso_process_stderr(piso_process *p, char *buffer, size_t size);
/* piso_process_title: sets the name that tools show for this process in lists, cut to the available room. */
PISO_API void piso_process_title(const char *title);
/* piso_fork_generation: returns a number that is different in a process forked from this one, and in its
 * children. Only reads memory. */
PISO_API uint32_t piso_fork_generation(void);

#ifdef __cplusplus
}
#endif

#endif
