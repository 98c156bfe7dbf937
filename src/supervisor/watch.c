/* watch.c - in the child: dies with the host.
 *
 * Two things tell that the host has gone: its pidfd, and the socket's hang-up (the only one across pid
 * namespaces). The socket also hangs up when a living host closes the session; the child then gets time to end in
 * order, because nothing that it does can matter any more. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "os/os.h"
#include "supervisor/process.h"

#define GRACE_NS 5000000000

typedef struct watch {
    int socket_fd, host_fd; /* host_fd: -1 when it has no pid here */
} watch;

static void end_group(void) {
    if (getpgrp() == getpid())
        piso__kill_group(getpid(), SIGKILL);
    raise(SIGKILL);
}

static void *watch_main(void *argument) {
    watch w = *(watch *)argument;
    free(argument);
    int fds[2] = {w.host_fd, w.socket_fd}, ready;
    do
        ready = piso__poll_in(fds, 2, -1);
    while (ready == 0 || ready == -EINTR);
    bool host_lives = w.host_fd >= 0 && ready == 2;
    if (host_lives)
        piso__poll_in(&w.host_fd, 1, GRACE_NS);
    end_group();
    return NULL;
}

/* open_host: the pidfd of the parent; -1 when it has no pid here, -ESRCH when it is gone. */
static int open_host(void) {
    pid_t parent = getppid();
    if (parent == 0)
        return -1;
    int fd = piso__pidfd_open(parent);
    if (fd >= 0 && getppid() != parent) {
        piso__fd_close(fd);
        return -ESRCH;
    }
    return fd < 0 ? -ESRCH : fd;
}

int piso__watch_host(int socket_fd) {
    watch *w = malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (watch){.socket_fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, 0), .host_fd = open_host()};
    int r = w->socket_fd < 0 ? -errno : w->host_fd == -ESRCH ? PISO_EDIED : 0;
    if (r == 0)
        r = piso__thread_start("piso-watch", watch_main, w);
    if (r < 0) {
        piso__fd_close(w->socket_fd);
        piso__fd_close(w->host_fd);
        free(w);
    }
    return r;
}
