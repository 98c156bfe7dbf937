/* spawn.c - starts a program without copying this process.
 *
 * fork copies page tables, which takes milliseconds in a host with gigabytes. The child here borrows this
 * process's memory instead (CLONE_VM), on its own stack, and the calling thread is suspended until the child
 * has exec'd or ended (CLONE_VFORK); other threads continue. This has three consequences. The child must not
 * disturb memory that those threads use: it makes bare system calls, because functions of libc (and the
 * sanitizers' versions of them) keep state, take locks and are cancellation points. No signal handler of the
 * host may run in it: all signals are blocked around it. And this process sees what the child writes: a failed
 * exec is reported without a pipe.
 *
 * clone also returns the pidfd in the same step. So a child that ends at once, or is reaped by another part of
 * the process, is never mistaken for another process. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

#define CHILD_STACK     (24 * 1024)
#define SIGNAL_SET_SIZE ((NSIG - 1) / 8) /* size of the kernel's signal set */
#define CONFINE_FD      (PISO__SPAWN_FD + 1)
#define SCRATCH_FD      10 /* first number that does not collide with those that a program starts with */

/* ThreadSanitizer's clone treats every child as a forked one and repairs "its" memory, which is ours. It does
 * not intercept glibc's other name for the same function. */
#if defined(__has_feature)
#define HAS_THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define HAS_THREAD_SANITIZER 1
#else
#define HAS_THREAD_SANITIZER 0
#endif
#if HAS_THREAD_SANITIZER
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

typedef struct spawn_job {
    const piso__spawn_options *options;
    int error; /* of the child's first failed step, or 0 */
    bool unconfined;
} spawn_job;

/* The record of getdents64. */
typedef struct directory_entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
} directory_entry;

/* close_listed: replaces close_range on systems that lack or forbid it. /proc lists descriptors in numeric
 * order, so closing them on the way is safe. False when there is no /proc. */
PISO__IN_CHILD static bool close_listed(int first) {
    alignas(directory_entry) char buffer[1024];
    int listing = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return false;
    long size;
    while ((size = syscall(SYS_getdents64, listing, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < size; at += ((directory_entry *)(buffer + at))->size) {
            int fd = 0;
            for (const char *c = ((directory_entry *)(buffer + at))->name; *c >= '0' && *c <= '9'; c++)
                fd = fd * 10 + (*c - '0');
            if (fd >= first && fd != listing)
                syscall(SYS_close, fd);
        }
    syscall(SYS_close, listing);
    return size == 0;
}

PISO__IN_CHILD static bool close_from(int first) {
    return syscall(SYS_close_range, (unsigned)first, ~0U, 0) == 0 || close_listed(first);
}

/* place_fds: moves the descriptors to their numbers by way of high numbers, since any of them may be where
 * another belongs. Where stdout should be that of a host that has none, it is /dev/null. */
PISO__IN_CHILD static bool place_fds(const piso__spawn_options *o) {
    bool no_stdout = syscall(SYS_fcntl, 1, F_GETFD) & FD_CLOEXEC; /* also true for -1, an error */
    int out = o->stdout_fd >= 0 ? o->stdout_fd : no_stdout ? o->stdin_fd : 1;
    const int from[] = {o->stdin_fd, out, o->stderr_fd, o->channel_fd, o->confine_fd},
              to[] = {0, 1, 2, PISO__SPAWN_FD, CONFINE_FD}, count = o->confine && o->confine_fd >= 0 ? 5 : 4;
    int moved[5];
    for (int i = 0; i < count; i++)
        if ((moved[i] = (int)syscall(SYS_fcntl, from[i], F_DUPFD, SCRATCH_FD)) < 0)
            return false;
    for (int i = 0; i < count; i++)
        if (syscall(SYS_dup3, moved[i], to[i], to[i] == CONFINE_FD ? O_CLOEXEC : 0) < 0)
            return false;
    return true;
}

/* confine: confines the child. Like all steps here it can report later failures without descriptors and
 * privileges. */
PISO__IN_CHILD static bool confine(spawn_job *job) {
    const piso__spawn_options *o = job->options;
    int r = o->confine ? o->confine(o->confine_argument, o->confine_fd < 0 ? -1 : CONFINE_FD) : 0;
    job->unconfined = r < 0;
    if (r < 0)
        errno = -r;
    return r == 0;
}

/* child_main: returns only if something failed, which ends the child. */
PISO__IN_CHILD static int child_main(void *argument) {
    spawn_job *job = argument;
    const piso__spawn_options *o = job->options;
    const unsigned long zeros[8] = {0}; /* the kernel's SIG_DFL without flags, and its empty signal set */
    for (int signal = 1; signal < NSIG; signal++)
        syscall(SYS_rt_sigaction, signal, zeros, NULL, SIGNAL_SET_SIZE);
    if (syscall(SYS_setpgid, 0, 0) == 0 && place_fds(o) &&
        close_from(o->confine && o->confine_fd >= 0 ? CONFINE_FD + 1 : CONFINE_FD) && confine(job) &&
        (!o->cwd || syscall(SYS_chdir, o->cwd) == 0) &&
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, zeros, NULL, SIGNAL_SET_SIZE) == 0)
        syscall(SYS_execve, o->argv[0], o->argv, o->envp);
    job->error = errno;
    return 127;
}

/* start: runs `function` in a child on this memory; returns when the child has exec'd or ended. Returns its
 * pid, or -errno. */
static pid_t start(int (*function)(void *), void *argument, int *ret_pidfd) {
    alignas(16) char stack[CHILD_STACK];
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid =
        clone(function, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, argument, ret_pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? -error : pid;
}

static void await_end(int pidfd) {
    piso_exit status;
    while (piso__reap(pidfd, &status) == 0)
        piso__poll_in(&pidfd, 1, -1);
}

pid_t piso__spawn(const piso__spawn_options *options, int *ret_pidfd) {
    spawn_job job = {.options = options};
    piso__autoclose int pidfd = -1;
    pid_t pid = start(child_main, &job, &pidfd);
    if (options->ret_confine_failed)
        *options->ret_confine_failed = job.unconfined;
    if (pid > 0 && job.error == 0) {
        *ret_pidfd = piso__fd_steal(&pidfd);
        return pid;
    }
    if (pid > 0)
        await_end(pidfd);
    return pid < 0 ? pid : -job.error;
}

int piso__call_in_child(int (*function)(void *argument), void *argument) {
    piso__autoclose int pidfd = -1;
    pid_t pid = start(function, argument, &pidfd);
    if (pid < 0)
        return pid;
    await_end(pidfd);
    return 0;
}

/* ---- the same for a forked child, which may use libc ---- */

int piso__place_fds(const int *from, int count) {
    int moved[PISO__FDS_MAX];
    assert(count <= PISO__FDS_MAX);
    for (int i = 0; i < count; i++)
        if ((moved[i] = fcntl(from[i], F_DUPFD, count)) < 0)
            return -errno;
    for (int i = 0; i < count; i++)
        if (dup2(moved[i], i) < 0)
            return -errno;
    return close_from(count) ? 0 : -errno;
}

int piso__execute(const char *const *argv, const char *const *envp, int first) {
    struct sigaction as_usual = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &as_usual, NULL);
    for (int fd = first; fd < PISO__FDS_MAX; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    execve(argv[0], (char *const *)argv, (char *const *)envp);
    return -errno;
}
