/* fd.c - file descriptors, eventfds, epoll, poll. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

#define SMALL_TABLE  192 /* descriptors; most processes have a table for 256 before they start threads */
#define TABLE_GROWTH 16

int piso__fd_close(int fd) {
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -1;
}

int piso__fd_dup(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

int piso__fd_dup_shared(int fd) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return -errno;
    return flags & FD_CLOEXEC ? -EBADF : piso__fd_dup(fd);
}

int piso__fd_cloexec(int fd) {
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int piso__fd_inode(int fd, uint64_t *ret_inode) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_inode = st.st_ino;
    return 0;
}

void piso__fd_reserve(int fd, int count) {
    piso__fd_close(fcntl(fd, F_DUPFD_CLOEXEC, count - 1));
}

bool piso__fd_raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

uint64_t piso__fd_share(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? UINT64_MAX : limit.rlim_max / 2;
}

void piso__fd_make_room(int fd) {
    static _Atomic rlim_t table; /* the size for which the kernel's table was last enlarged */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if ((rlim_t)fd >= limit.rlim_cur / 2 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_cur > limit.rlim_max / 2 ? limit.rlim_max : limit.rlim_cur * 2;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    rlim_t known = atomic_load_explicit(&table, memory_order_relaxed), next = (rlim_t)fd * TABLE_GROWTH;
    if (next > limit.rlim_cur)
        next = limit.rlim_cur;
    if (fd < SMALL_TABLE || (rlim_t)fd < known - known / 4 || next <= known)
        return;
    atomic_store_explicit(&table, next, memory_order_relaxed);
    piso__fd_reserve(fd, (int)next);
}

int piso__event_create(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void piso__event_signal(int fd) {
    /* EAGAIN: the counter is full, so the eventfd is readable anyway */
    while (eventfd_write(fd, 1) < 0 && errno == EINTR)
        ;
}

void piso__event_clear(int fd) {
    eventfd_t count;
    while (eventfd_read(fd, &count) < 0 && errno == EINTR)
        ;
}

int piso__epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int piso__epoll_add(int epoll_fd, int fd, uint64_t data) {
    return epoll_add(epoll_fd, fd, EPOLLIN, data);
}

int piso__epoll_add_hangup(int epoll_fd, int fd, uint64_t data) {
    return epoll_add(epoll_fd, fd, EPOLLRDHUP, data); /* EPOLLHUP is always reported */
}

int piso__epoll_add_off(int epoll_fd, int fd) {
    return epoll_add(epoll_fd, fd, 0, 0);
}

void piso__epoll_switch(int epoll_fd, int fd, bool on) {
    struct epoll_event event = {.events = on ? EPOLLIN : 0};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

int piso__epoll_remove(int epoll_fd, int fd) {
    return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int piso__epoll_wait(int epoll_fd, uint64_t *ret_data, int count, int timeout_ms) {
    struct epoll_event events[16];
    int n = epoll_wait(epoll_fd, events, count < 16 ? count : 16, timeout_ms);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++)
        ret_data[i] = events[i].data.u64;
    return n;
}

/* poll_any: returns a bit mask of the descriptors with events, 0 on timeout, -errno. */
static int poll_any(struct pollfd *polled, int count, int64_t timeout_ns) {
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int n = ppoll(polled, (nfds_t)count, timeout_ns < 0 ? NULL : &timeout, NULL);
    if (n < 0)
        return -errno;
    int mask = 0;
    for (int i = 0; i < count; i++)
        if (polled[i].revents)
            mask |= 1 << i;
    return mask;
}

int piso__poll_in(const int *fds, int count, int64_t timeout_ns) {
    struct pollfd polled[PISO__POLL_MAX];
    assert(count <= PISO__POLL_MAX);
    for (int i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    return poll_any(polled, count, timeout_ns);
}

int piso__wait_end(int process_fd, int socket_fd, int64_t timeout_ns) {
    struct pollfd polled[2] = {{.fd = process_fd, .events = POLLIN}, {.fd = socket_fd, .events = POLLRDHUP}};
    return poll_any(polled, 2, timeout_ns);
}

int piso__random(void *data, size_t size) {
    uint8_t *to = data;
    while (size) {
        ssize_t n = getrandom(to, size, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            to += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

bool piso__read_text(const char *path, char *buffer, size_t size) {
    piso__autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && length < size - 1) { /* files in /proc are read in pieces */
        n = piso__read(fd, buffer + length, size - 1 - length);
        length += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        return false;
    buffer[length] = '\0';
    return true;
}
