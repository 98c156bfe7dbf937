/* os.h - the only system calls of the core, each wrapped once: -errno instead of errno, EINTR retried where
 * the call cannot be interrupted usefully, close-on-exec from birth. Thread-safe. -1 is the empty fd. */
#ifndef PISO_OS_OS_H
#define PISO_OS_OS_H

#include <sys/types.h>

#include "base/base.h"
#include "os/fork.h"

/* piso__random: fills with random bytes. 0 or -errno. */
int piso__random(void *data, size_t size);

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

/* piso__fd_dup: another descriptor for the same thing. */
int piso__fd_dup(int fd);
/* piso__fd_dup_shared: the same for one that programs inherit; -EBADF for one that they do not. */
int piso__fd_dup_shared(int fd);
/* piso__read_text: a file as a string, cut where the buffer ends; false if it cannot be read. */
bool piso__read_text(const char *path, char *buffer, size_t size);
/* piso__fd_cloexec: makes an inherited descriptor close-on-exec. */
int piso__fd_cloexec(int fd);

/* piso__fd_inode: the number of the file behind it, unique among files of its kind. 0 or -errno. */
int piso__fd_inode(int fd, uint64_t *ret_inode);
/* piso__fd_make_room: raises this process's soft limit on descriptors towards the hard one when `fd`, the newest, is
 * past half of it. Has the kernel's table grow to sixteen times as much at once, instead of doubling it four times: a process
 * with threads waits tens of milliseconds for each. */
void piso__fd_make_room(int fd);
/* piso__fd_reserve: has the kernel make its table for `count` descriptors, as far as the limit permits. Where several threads
 * share the table each doubling takes tens of milliseconds, so this is for a process that has no threads yet. */
void piso__fd_reserve(int fd, int count);
/* piso__fd_raise_limit: raises the soft limit to the hard one. False when it is there already. */
bool piso__fd_raise_limit(void);

/* piso__fd_share: how many descriptors one peer may have open here: half of what this process can have at all. */
uint64_t piso__fd_share(void);

/* ---- shared memory ---- */

/* piso__page_size: of this machine, at most PISO__PAGE_MAX. */
uint64_t piso__page_size(void);
/* piso__memfd_create: anonymous memory of `size` bytes (sparse: no page is there yet), sealed against
 * shrinking and growing and further sealing. The fd, or -errno. */
int piso__memfd_create(const char *name, uint64_t size);
/* piso__memfd_check: 0 when fd is such a memfd of exactly `size` bytes, with these seals and no others, of ordinary
 * pages and open for reading and writing, else -EPROTO. For descriptors that come from somewhere else: mapping one that
 * can shrink, or of huge pages, risks SIGBUS. */
int piso__memfd_check(int fd, uint64_t size);
/* piso__memfd_size: in bytes, or -errno. */
int64_t piso__memfd_size(int fd);
/* piso__memfd_backed: how many bytes of it are there; 0 when that cannot be told. */
uint64_t piso__memfd_backed(int fd);
/* piso__memfd_has_hole: whether some page of the range is not there, or was never written to, or cannot be told to be. Of
 * what piso__populate and piso__allocate have backed no page is such where the system is strict (os/cgroup.h). */
bool piso__memfd_has_hole(int fd, uint64_t offset, uint64_t size);
/* piso__map: maps all of it, shared, MAP_NORESERVE, not dumped in core files, not inherited by fork
 * (MADV_DONTFORK where `dontfork`). */
int piso__map(int fd, uint64_t size, bool writable, bool dontfork, void **ret_base);
void piso__unmap(void *base, uint64_t size);
/* piso__populate: backs [offset, offset+size) of the memfd with pages now, so that a later touch cannot raise
 * SIGBUS: -ENOMEM or -ENOSPC when there are none. `base` is the writable mapping, to enter them in the page
 * table in the same pass (MADV_POPULATE_WRITE where the kernel has it). */
int piso__populate(int fd, void *base, uint64_t offset, uint64_t size);
/* piso__allocate: backs all of a memfd with pages, unmapped. 0, -ENOMEM or -ENOSPC. */
int piso__allocate(int fd, uint64_t size);
/* piso__punch: gives the pages of the range back to the system; it reads as zeros afterwards. */
int piso__punch(int fd, uint64_t offset, uint64_t size);

/* ---- doorbells ---- */

/* Between two processes: a pair of sockets, one for each. Whether a call on an eventfd waits is decided by a flag that
 * all who have it can change, so a peer could make this side wait for ever; for a socket each call says it itself. */
int piso__bell_pair(int ret_fds[2]);
void piso__bell_ring(int fd);  /* makes the other end readable; never blocks, never fails visibly */
bool piso__bell_clear(int fd); /* takes rings that came here, never blocks; false once the other end is closed */

/* Within a process: an eventfd, non-blocking. */
int piso__event_create(void);
void piso__event_signal(int fd); /* never blocks, never fails visibly */
void piso__event_clear(int fd);  /* resets to not readable */

/* Within a process, without a descriptor: a number in memory. piso__word_wait: until it is another than `value`, or
 * timeout_ns (-1: none) went by. 1; 0 when the time was over; -EINTR. piso__word_wake: after it has changed. */
int piso__word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t timeout_ns);
void piso__word_wake(const _Atomic uint32_t *word);

/* ---- epoll ---- */

int piso__epoll_create(void);
int piso__epoll_add(int epoll_fd, int fd, uint64_t data); /* EPOLLIN */
int piso__epoll_remove(int epoll_fd, int fd);
/* piso__epoll_wait: blocks until something is readable, or timeout_ms (-1: none) went by; the data of at most `count`
 * (<= 16) of them. */
int piso__epoll_wait(int epoll_fd, uint64_t *ret_data, int count, int timeout_ms);

/* A beacon is a descriptor that is always readable. An epoll that has it is made readable, for whoever waits there, by
 * switching it on: without a descriptor of its own. An epoll has a descriptor only once, so there are two. */
typedef struct piso__beacon_pair {
    int rung, ended;
} piso__beacon_pair;
/* piso__beacon_take: a pair that others of this process have, too. 0 or -errno. Not in a forked process: give. */
int piso__beacon_take(piso__beacon_pair *ret_pair);
void piso__beacon_give(const piso__beacon_pair *pair);
/* piso__epoll_add_off: adds a beacon. piso__epoll_switch: makes it count, or not any more; never fails. */
int piso__epoll_add_off(int epoll_fd, int fd);
void piso__epoll_switch(int epoll_fd, int fd, bool on);

#define PISO__POLL_MAX 31
/* piso__poll_in: waits until one of up to PISO__POLL_MAX descriptors (-1: ignored) is readable or hung up, timeout_ns
 * (-1: none; rounded up to the nanosecond, ppoll). Bit mask of the ready ones, 0 on timeout, -EINTR, -errno. */
int piso__poll_in(const int *fds, int count, int64_t timeout_ns);

/* piso__wait_end: until process_fd (a pidfd, or -1) is readable or the other end of socket_fd has hung up: bit mask
 * of these, 0 on timeout, -errno. Packets in the socket do not count. */
int piso__wait_end(int process_fd, int socket_fd, int64_t timeout_ns);
/* piso__epoll_add_hangup: readable when the other end of the socket has hung up; packets do not count. */
int piso__epoll_add_hangup(int epoll_fd, int fd, uint64_t data);

/* ---- sockets ---- */

#define PISO__FDS_MAX 16
/* piso__socketpair: a pair of AF_UNIX SOCK_SEQPACKET sockets. */
int piso__socketpair(int ret_fds[2]);
/* piso__send_fds: one packet with descriptors. 0 or -errno: -EPIPE, which raises no signal; -EAGAIN when so much waits
 * there that there is no room: it never waits for the peer. What all processes of a user have under way counts against
 * the soft limit of descriptors of the one that sends: it is raised if need be. */
int piso__send_fds(int fd, const void *data, size_t size, const int *fds, int count);
/* piso__receive_packet: one packet of at most `size` bytes with at most *count descriptors (close-on-exec): how many
 * bytes, and in *count how many descriptors. -EPROTO and all received descriptors closed when there is more of either;
 * -EMFILE, with the bytes in place, when this process can have no more descriptors; -ECONNRESET when the peer has gone,
 * -EAGAIN when nonblocking and nothing is there. */
ssize_t piso__receive_packet(int fd, void *data, size_t size, int *ret_fds, int *count, bool nonblocking);
/* piso__receive_fds: one packet of exactly `size` bytes with exactly `count` descriptors (close-on-exec), else
 * -EPROTO and all received descriptors closed. -ECONNRESET when the peer has gone, -EAGAIN when nonblocking
 * and nothing is there. */
int piso__receive_fds(int fd, void *data, size_t size, int *ret_fds, int count, bool nonblocking);

/* piso__peek: the first `size` bytes of the next packet, which stays there. As piso__receive_fds; a shorter one is
 * -EPROTO. */
int piso__peek(int fd, void *data, size_t size, bool nonblocking);

/* piso__socket_end: nothing more is sent or received here, and the other end is told. 0 or -errno. */
int piso__socket_end(int fd);
/* piso__socket_creator: pid of the process that made the pair; 0 when it has none here (pid namespaces). */
pid_t piso__socket_creator(int fd);

/* ---- time and processors ---- */

/* piso_now_ns is in os/clock.c */
/* piso__cpu_count: processors this process may use at once: affinity mask and cgroup (v1, v2) quota, rounded
 * up, at least 1. Reads files: call it seldom. */
int piso__cpu_count(void);

/* piso__cpu_current: the processor this thread runs on, or -1. No system call. */
int piso__cpu_current(void);
/* piso__cpu_leave: moves this thread to another of the processors that it may use; takes some 40 us. Nothing where there
 * is only one. */
void piso__cpu_leave(void);
/* piso__cpu_yield: lets another thread run that is ready on this processor, if there is one. */
void piso__cpu_yield(void);

/* ---- processes ---- */

int piso__pidfd_open(pid_t pid);

/* piso__spawn: starts argv[0] in a process group of its own with descriptor 0 = stdin_fd, 1 = stdout_fd (-1: as
 * here), 2 = stderr_fd, PISO__SPAWN_FD = channel_fd, and no other; signals as a fresh program expects them. Memory
 * is not copied. The pid and its pidfd, or -errno, also that of a failed chdir or exec. */
#define PISO__SPAWN_FD 3
typedef struct piso__spawn_options {
    const char *const *argv, *const *envp;
    const char *cwd; /* or NULL */
    int stdin_fd, stdout_fd, stderr_fd, channel_fd;
    /* NULL, or called in the child, on this memory, when it has no other descriptors left but confine_fd (or -1) under
     * another number, which is closed by the exec. Its -errno ends the start. */
    int (*confine)(void *argument, int fd);
    void *confine_argument;
    int confine_fd;
    bool *ret_confine_failed; /* with confine: whether it was this that failed */
} piso__spawn_options;
pid_t piso__spawn(const piso__spawn_options *options, int *ret_pidfd);

/* piso__call_in_child: calls the function in a child process on this memory, as confine above, and waits for its end.
 * 0 or -errno of starting it. */
int piso__call_in_child(int (*function)(void *argument), void *argument);

/* piso__own_files: what a process has in /proc about itself, but for its threads and its network. Ends with NULL. */
extern const char *const piso__own_files[];
/* piso__pin_own_entry: keeps /proc/self open for ever, and where what is about the network cannot be read piso__own_files,
 * too. A sandbox lets a process read these inodes; under memory pressure the kernel would make others. */
void piso__pin_own_entry(void);

/* piso__place_fds: makes descriptors from[0..count) the numbers 0..count-1, not close-on-exec, and closes all others;
 * for a forked child. 0 or -errno. */
int piso__place_fds(const int *from, int count);
/* piso__execute: in a forked child: runs the program, with signals as a fresh program expects them, and no descriptors from
 * `first` on. -errno if it cannot. */
int piso__execute(const char *const *argv, const char *const *envp, int first);
/* piso__has_children: whether this process has any that it has not reaped. */
bool piso__has_children(void);
/* piso__adopt_orphans: from now on descendants of this process whose parent has ended become its children, in all
 * processes that it forks from now on. SIGCHLD is blocked; a descriptor that is readable when a child has ended, or
 * -errno. piso__children_clear: makes it unreadable again. */
int piso__adopt_orphans(void);
void piso__children_clear(int signal_fd);
/* piso__children: of the calling thread, which is the only one, with those that nobody has reaped: how many, and a list
 * for the caller to free; -errno. */
int piso__children(pid_t **ret_pids);
/* piso__child_has_ended: of a child that has not been reaped. piso__reap_child: as piso__reap. */
bool piso__child_has_ended(pid_t pid);
int piso__reap_child(pid_t pid, piso_exit *ret_exit);
/* piso__kill_child: SIGKILL for a child that has not been reaped, and for its process group if it leads one. */
void piso__kill_child(pid_t pid);
/* piso__mount_namespace: a number for the mount namespace of a child that has not been reaped. 0; -ENOENT for one that has
 * ended; -EACCES for one that hides it. */
int piso__mount_namespace(pid_t pid, uint64_t *ret_id);
/* piso__has_no_new_privileges: whether a process can get no privileges by executing, as all that are confined. */
bool piso__has_no_new_privileges(pid_t pid);
/* piso__thread_count: of this process; -errno when /proc does not tell. */
int piso__thread_count(void);
/* piso__kill_on_hangup: has the kernel kill this process's group (SIGKILL) when something happens at the other end of
 * a socket; before there is a thread that could wait for it. Not on: no longer. 0 or -errno. */
int piso__kill_on_hangup(int socket_fd, bool on);
/* piso__process_title: the name of this process and of its only thread, in the memory of its arguments. */
void piso__process_title(const char *title);
/* piso__memory_share: moves this process's memory to where forked processes can give it back. It must have one
 * thread. 0, or -errno: nothing was moved. -EINVAL: it has been moved, or pages are not of 4 KiB. When it fails
 * half-way the process is killed. */
int piso__memory_share(void);
/* piso__memory_settle: gives the pages back that hold what they held before the fork. Once; does nothing when the
 * process has more than `own_threads` threads, of which all but the caller only wait. Returns how many pages. */
int piso__memory_settle(int own_threads);
/* piso__directory_open: the current directory, also when it has been removed. */
int piso__directory_open(void);
/* piso__directory_enter: makes `path`, or else the directory behind `fd`, the current one. 0 or -errno. */
int piso__directory_enter(int fd, const char *path);
/* piso__fork: forks this process. The child leads a group of its own, which exists when this returns in the parent,
 * and blocks no signals. 0 in the child, else its pid with its pidfd, or -errno. */
pid_t piso__fork(int *ret_pidfd);

/* piso__reap: how the process behind a pidfd ended. 1; 0 when it has not ended; -ECHILD when somebody else has
 * reaped it. */
int piso__reap(int pidfd, piso_exit *ret_exit);
/* piso__exit_of: the same for a process that has ended and is not our child. 0; -ENOTTY and other errors where the kernel
 * does not tell: before 6.15, if it has been reaped; and where this process may not look at it, if it has not. */
int piso__exit_of(int pidfd, pid_t pid, piso_exit *ret_exit);
/* piso__kill_group: signals the process group that this process leads or led. The pidfd makes sure that it is no
 * other group; kernels before 6.9 go by the number. 0 or -errno. */
int piso__kill_group(int pidfd, pid_t group, int signal);
/* piso__kill_own_group: SIGKILL for this process and, if it leads its group, for all of it. Does not return. */
void piso__kill_own_group(void);

/* piso__thread_start: a detached thread with all signals blocked and a small stack. 0 or -errno. */
int piso__thread_start(const char *name, void *(*function)(void *), void *argument);

/* piso__pipe: a close-on-exec pipe whose reading end does not block. */
int piso__pipe(int ret_fds[2]);
int piso__open_null(void);
/* piso__read: some bytes; 0 at the end; -EAGAIN; -errno. */
ssize_t piso__read(int fd, void *buffer, size_t size);
/* piso__read_at, piso__write_at: of memory or a file, at an offset: how many bytes, or -errno. */
ssize_t piso__read_at(int fd, void *buffer, size_t size, off_t offset);
ssize_t piso__write_at(int fd, const void *data, size_t size, off_t offset);
/* piso__write_if_ready: writes as much as goes without blocking, drops the rest. */
void piso__write_if_ready(int fd, const void *data, size_t size);

#endif
