/* process.c - starting, reaping and telling processes and threads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define STACK_SIZE (256 * 1024)
#define PIPE_ATOMIC 4096

/* ---- fork ---- */

static _Atomic uint32_t generation;

static void count_fork(void) {
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(NULL, NULL, count_fork);
}

uint32_t piso__fork_generation(void) {
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

/* ---- spawning ---- */

/* close_others: closes everything from `first` on. */
static void close_others(int first) {
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0) == 0)
        return;
    long limit = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
    for (int fd = first; fd < (limit > 0 ? limit : 65536); fd++)
        close(fd);
}

/* place_fds: puts the three descriptors where they belong, by way of high numbers, since any of them may sit on
 * the place of another. */
static bool place_fds(const piso__spawn_options *o) {
    int in = fcntl(o->stdin_fd, F_DUPFD, 10), err = fcntl(o->stderr_fd, F_DUPFD, 10);
    int channel = fcntl(o->channel_fd, F_DUPFD, 10);
    if (in < 0 || err < 0 || channel < 0 || (fcntl(1, F_GETFD) < 0 && dup2(in, 1) < 0))
        return false;
    return dup2(in, 0) >= 0 && dup2(err, 2) >= 0 && dup2(channel, PISO__SPAWN_FD) >= 0;
}

/* child_main: between vfork and exec, on the parent's memory and stack: system calls only. Never returns. */
static void child_main(const piso__spawn_options *o, volatile int *error) {
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(signal, &action, NULL);
    }
    if (setpgid(0, 0) == 0 && place_fds(o) && (!o->cwd || chdir(o->cwd) == 0)) {
        close_others(PISO__SPAWN_FD + 1);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(o->argv[0], (char *const *)o->argv, (char *const *)o->envp);
    }
    *error = errno;
    _exit(127);
}

pid_t piso__spawn(const piso__spawn_options *options) {
    sigset_t all, before;
    volatile int error = 0;
    sigfillset(&all);
    /* no handler of the host may run in the child, which borrows its memory */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = vfork();
    if (pid == 0)
        child_main(options, &error);
    int fork_error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return -fork_error;
    if (error == 0)
        return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return -error;
}

/* ---- the end of a process ---- */

int piso__pidfd_open(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    return fd < 0 ? -errno : fd;
}

int piso__reap(int pidfd, piso_exit *ret_exit) {
    siginfo_t info;
    int r;
    do {
        info.si_pid = 0;
        r = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    if (info.si_pid == 0)
        return 0;
    bool exited = info.si_code == CLD_EXITED;
    *ret_exit = (piso_exit){.known = true, .code = exited ? info.si_status : -1, .signal = exited ? 0 : info.si_status};
    return 1;
}

int piso__kill_group(pid_t group, int signal) {
    return kill(-group, signal) < 0 ? -errno : 0;
}

/* ---- threads ---- */

int piso__thread_start(const char *name, void *(*function)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    int r = pthread_attr_init(&attributes);
    if (r)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attributes, function, argument);
    if (r == 0)
        pthread_setname_np(thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

/* ---- pipes ---- */

int piso__pipe(int ret_fds[2]) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int piso__open_null(void) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

ssize_t piso__read(int fd, void *buffer, size_t size) {
    ssize_t n;
    do
        n = read(fd, buffer, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

void piso__write_if_ready(int fd, const void *data, size_t size) {
    const uint8_t *from = data;
    while (size) {
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        if (poll(&polled, 1, 0) <= 0 || !(polled.revents & POLLOUT))
            return;
        /* a pipe that is ready takes this much without blocking */
        ssize_t n = write(fd, from, size < PIPE_ATOMIC ? size : PIPE_ATOMIC);
        if (n <= 0)
            return;
        from += n;
        size -= (size_t)n;
    }
}
