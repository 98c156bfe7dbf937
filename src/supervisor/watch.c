/* watch.c - in the child: ends with the host.
 *
 * Two sources report that the host has gone: its pidfd, and the socket's hang-up (the only one across pid
 * namespaces). The host is the process that made the socket. It need not be our parent: a wrapper may be in
 * between, and the host may be gone already. The socket also hangs up when a living host closes the session;
 * the child then gets time to end in an orderly way, because nothing that it does can matter any more. */
#include "os/os.h"
#include "supervisor/process.h"

#define GRACE_NS 5000000000

typedef struct watch {
    int socket_fd, host_fd; /* host_fd: -1 when the host has no pid here */
} watch;

static _Atomic int64_t watched = -1; /* the fork generation that has the thread */

static void *watch_main(void *argument) {
    watch w = *(watch *)argument;
    free(argument);
    int ready;
    do
        ready = piso__wait_end(w.host_fd, w.socket_fd, -1);
    while (ready <= 0);
    if (w.host_fd >= 0)
        piso__poll_in(&w.host_fd, 1, GRACE_NS); /* returns at once if the host has gone */
    piso__kill_own_group();
    return NULL;
}

int piso__watch_host(int socket_fd) {
    piso__pin_own_entry();
    pid_t host = piso__socket_creator(socket_fd);
    piso__autoclose int host_fd = host > 0 ? piso__pidfd_open(host) : -1;
    if (host_fd == -ESRCH)
        return PISO_EDIED;
    piso__autoclose int own_socket = piso__fd_dup(socket_fd);
    if (own_socket < 0)
        return own_socket;
    watch *w = malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (watch){.socket_fd = own_socket, .host_fd = host_fd};
    int r = piso__thread_start("piso-watch", watch_main, w);
    if (r < 0) {
        free(w);
        return r;
    }
    atomic_store(&watched, piso__fork_generation());
    piso__fd_steal(&own_socket);
    piso__fd_steal(&host_fd);
    return 0;
}

bool piso__is_watched(void) {
    return atomic_load(&watched) == piso__fork_generation();
}
