/* socket.c - packets with descriptors over a Unix socket pair. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os.h"

typedef union control_buffer {
    char bytes[CMSG_SPACE(sizeof(int) * PISO__FDS_MAX)];
    struct cmsghdr align;
} control_buffer;

int piso__socketpair(int ret_fds[2]) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int piso__socket_end(int fd) {
    return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0;
}

pid_t piso__socket_creator(int fd) {
    struct ucred creator;
    socklen_t size = sizeof creator;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creator, &size) < 0 ? 0 : creator.pid;
}

int piso__bell_pair(int ret_fds[2]) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

void piso__bell_ring(int fd) {
    /* EAGAIN: so many rings wait that it is readable; EPIPE: nobody listens any more */
    while (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

bool piso__bell_clear(int fd) {
    char rings[256];
    ssize_t n;
    do
        n = recv(fd, rings, sizeof rings, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

int piso__send_fds(int fd, const void *data, size_t size, const int *fds, int count) {
    assert(count <= PISO__FDS_MAX);
    struct iovec part = {(void *)data, size};
    control_buffer control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)count);
    }
    ssize_t n;
    bool raised = false;
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || (errno == ETOOMANYREFS && !raised && (raised = piso__fd_raise_limit()))));
    return n < 0 ? -errno : (size_t)n == size ? 0 : -EPROTO;
}

/* collect_fds: copies out all descriptors of a received message, at most PISO__FDS_MAX. Returns how many. */
static int collect_fds(struct msghdr *message, int *fds) {
    int count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && count < PISO__FDS_MAX; i++)
            memcpy(&fds[count++], CMSG_DATA(h) + i * sizeof(int), sizeof(int));
    }
    return count;
}

int piso__peek(int fd, void *data, size_t size, bool nonblocking) {
    ssize_t n;
    do
        n = recv(fd, data, size, MSG_PEEK | (nonblocking ? MSG_DONTWAIT : 0));
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ECONNRESET : (size_t)n == size ? 0 : -EPROTO;
}

ssize_t piso__receive_packet(int fd, void *data, size_t size, int *ret_fds, int *count, bool nonblocking) {
    struct iovec part = {data, size};
    control_buffer control;
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t n;
    do
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (nonblocking ? MSG_DONTWAIT : 0));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    int fds[PISO__FDS_MAX], received = collect_fds(&message, fds);
    bool truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    if (n > 0 && received <= *count && !truncated) {
        for (int i = 0; i < received; i++)
            ret_fds[i] = fds[i];
        *count = received;
        return n;
    }
    for (int i = 0; i < received; i++)
        piso__fd_close(fds[i]);
    bool no_room = message.msg_flags & MSG_CTRUNC && received < PISO__FDS_MAX;
    return n == 0 ? -ECONNRESET : no_room ? -EMFILE : -EPROTO;
}

int piso__receive_fds(int fd, void *data, size_t size, int *ret_fds, int count, bool nonblocking) {
    int fds[PISO__FDS_MAX], received = PISO__FDS_MAX;
    ssize_t n = piso__receive_packet(fd, data, size, fds, &received, nonblocking);
    if (n < 0)
        return (int)n;
    bool good = (size_t)n == size && received == count;
    for (int i = 0; i < received; i++) {
        if (good)
            ret_fds[i] = fds[i];
        else
            piso__fd_close(fds[i]);
    }
    return good ? 0 : -EPROTO;
}
