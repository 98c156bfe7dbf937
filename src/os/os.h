/* os.h - the only system calls of the core, each wrapped once: -errno instead of errno, EINTR retried where
 * the call cannot be interrupted usefully, close-on-exec from birth. Thread-safe. -1 is the empty fd. */
#ifndef PISO_OS_OS_H
#define PISO_OS_OS_H

#include <sys/types.h>

#include "base/base.h"

/* ---- descriptors ---- */

/* piso__fd_close: closes unless -1, returns -1. Never retries EINTR (Linux has closed it). */
int piso__fd_close(int fd);
static inline void piso__fd_closep(int *fd) {
    *fd = piso__fd_close(*fd);
}
#define piso__autoclose piso__cleanup(piso__fd_closep)
static inline int piso__fd_steal(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* ---- shared memory ---- */

/* piso__memfd_create: anonymous memory of `size` bytes (sparse: no page is there yet), sealed against
 * shrinking and growing and further sealing. The fd, or -errno. */
int piso__memfd_create(const char *name, uint64_t size);
/* piso__memfd_check: 0 when fd is such a sealed memfd of exactly `size` bytes, else -EPROTO. For descriptors
 * that come from somewhere else: mapping one that can shrink risks SIGBUS. */
int piso__memfd_check(int fd, uint64_t size);
/* piso__map: maps all of it, shared, MAP_NORESERVE, not dumped in core files, not inherited by fork
 * (MADV_DONTFORK where `dontfork`). */
int piso__map(int fd, uint64_t size, bool writable, bool dontfork, void **ret_base);
void piso__unmap(void *base, uint64_t size);
/* piso__populate: backs [offset, offset+size) of the memfd with pages now, so that a later touch cannot raise
 * SIGBUS: -ENOMEM or -ENOSPC when there are none. `base` is the writable mapping, to enter them in the page
 * table in the same pass (MADV_POPULATE_WRITE where the kernel has it). */
int piso__populate(int fd, void *base, uint64_t offset, uint64_t size);
/* piso__punch: gives the pages of the range back to the system; it reads as zeros afterwards. */
int piso__punch(int fd, uint64_t offset, uint64_t size);

/* ---- doorbells (eventfd, non-blocking) ---- */

int piso__event_create(void);
void piso__event_signal(int fd);   /* never blocks, never fails visibly */
void piso__event_clear(int fd);    /* resets to not readable */

/* ---- epoll ---- */

int piso__epoll_create(void);
int piso__epoll_add(int epoll_fd, int fd, uint64_t data); /* EPOLLIN */
int piso__epoll_remove(int epoll_fd, int fd);
/* piso__epoll_wait: blocks until something is readable; the data of at most `count` (<= 16) of them. */
int piso__epoll_wait(int epoll_fd, uint64_t *ret_data, int count);

/* piso__poll_in: waits until one of up to 4 descriptors (-1: ignored) is readable or hung up, timeout_ns
 * (-1: none; rounded up to the nanosecond, ppoll). Bit mask of the ready ones, 0 on timeout, -EINTR, -errno. */
int piso__poll_in(const int *fds, int count, int64_t timeout_ns);

/* ---- sockets ---- */

#define PISO__FDS_MAX 8
/* piso__socketpair: a pair of AF_UNIX SOCK_SEQPACKET sockets. */
int piso__socketpair(int ret_fds[2]);
/* piso__send_fds: one packet with descriptors. 0 or -errno (-EPIPE raises no signal). */
int piso__send_fds(int fd, const void *data, size_t size, const int *fds, int count);
/* piso__receive_fds: one packet of exactly `size` bytes with exactly `count` descriptors (close-on-exec), else
 * -EPROTO and all received descriptors closed. -ECONNRESET when the peer has gone, -EAGAIN when nonblocking
 * and nothing is there. */
int piso__receive_fds(int fd, void *data, size_t size, int *ret_fds, int count, bool nonblocking);

/* ---- time and processors ---- */

/* piso_now_ns is in os/clock.c */
/* piso__cpu_count: processors this process may use at once: affinity mask and cgroup (v1, v2) quota, rounded
 * up, at least 1. Reads files: call it seldom. */
int piso__cpu_count(void);

/* ---- processes ---- */

int piso__pidfd_open(pid_t pid);
/* piso__random: fills with random bytes. 0 or -errno. */
int piso__random(void *data, size_t size);

#endif
