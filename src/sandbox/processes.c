/* processes.c - the limit on a child's processes, which a control group counts, or the kernel per user.
 *
 * The kernel's own limit (RLIMIT_NPROC) does not apply to user 0 of the whole system, whatever namespaces and
 * capabilities there are. It applies to the root of a container that is another user outside. Which of these
 * this process is cannot be read anywhere, so it is tried. */
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/processes.h"

#define STACK 4096

typedef struct trial {
    bool holds;
    alignas(16) char stack[STACK];
} trial;

PISO__IN_CHILD static int end_at_once(void *argument) {
    (void)argument;
    return 0;
}

/* try_main: runs without capabilities, as the extension will. */
PISO__IN_CHILD static int try_main(void *argument) {
    trial *t = argument;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};
    const struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
    if (syscall(SYS_capset, &header, none) < 0 || syscall(SYS_prlimit64, 0, RLIMIT_NPROC, &limit, NULL) < 0)
        return 0;
    pid_t pid = clone(end_at_once, t->stack + sizeof t->stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    t->holds = pid < 0 && errno == EAGAIN;
    if (pid > 0)
        syscall(SYS_wait4, pid, NULL, 0, NULL);
    return 0;
}

bool piso__kernel_counts_processes(void) {
    static piso__finding found; /* several threads may ask for the first time at once; each then tries */
    int holds;
    if (!piso__finding_get(&found, &holds)) {
        trial t = {.holds = false};
        holds = piso__call_in_child(try_main, &t) == 0 && t.holds;
        piso__finding_set(&found, holds);
    }
    return holds;
}
