/* os.h - the only system calls of the core. Each is wrapped once: it returns -errno instead of setting errno,
 * retries EINTR unless an interruption is useful, and makes descriptors close-on-exec from birth. Thread-safe.
 * -1 is the empty fd. */
#ifndef PISO_OS_OS_H
#define PISO_OS_OS_H

#include <sys/types.h>

#include "base/base.h"
#include "os/fork.h"

/* piso__random: fills the buffer with random bytes. 0 or -errno. */
int piso__random(void *data, size_t size);

/* ---- descriptors ---- */

/* piso__fd_close: closes the descriptor unless it is -1, and returns -1. Never retries EINTR (Linux has closed
 * it). */
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

/* piso__fd_dup: returns another descriptor for the same file, or -errno. */
int piso__fd_dup(int fd);
/* piso__fd_dup_shared: the same for a descriptor that programs inherit; -EBADF for one that they do not. */
int piso__fd_dup_shared(int fd);
/* piso__read_text: reads a file as a string, cut to the buffer. False if it cannot be read. */
bool piso__read_text(const char *path, char *buffer, size_t size);
/* piso__fd_cloexec: makes an inherited descriptor close-on-exec. */
int piso__fd_cloexec(int fd);

/* piso__fd_inode: returns the inode number of the file, unique among files of its kind. 0 or -errno. */
int piso__fd_inode(int fd, uint64_t *ret_inode);
/* piso__fd_make_room: raises this process's soft limit on descriptors towards the hard one when `fd`, the
 * newest, is past half of it. Makes the kernel enlarge its table sixteen times at once, instead of doubling it
 * four times: a process with threads waits tens of milliseconds for each enlargement. */
void piso__fd_make_room(int fd);
/* piso__fd_reserve: makes the kernel enlarge its table to `count` descriptors, as far as the limit permits.
 * Each doubling takes tens of milliseconds where several threads share the table, so this is for a process that
 * has no threads yet. */
void piso__fd_reserve(int fd, int count);
/* piso__fd_raise_limit: raises the soft limit to the hard one. False when it is there already. */
bool piso__fd_raise_limit(void);

/* piso__fd_share: returns how many descriptors one peer may have open here: half of what this process can have. */
uint64_t piso__fd_share(void);

/* ---- shared memory ---- */

/* piso__page_size: returns the page size of this machine, at most PISO__PAGE_MAX. */
uint64_t piso__page_size(void);
/* piso__memfd_create: makes anonymous memory of `size` bytes. It is sparse (no page exists yet) and sealed
 * against shrinking, growing and further sealing. Returns the fd, or -errno. */
int piso__memfd_create(const char *name, uint64_t size);
/* piso__memfd_check: checks a descriptor from elsewhere. 0 when it is such a memfd of exactly `size` bytes,
 * with these seals and no others, of ordinary pages and open for reading and writing, else -EPROTO. Mapping one
 * that can shrink, or that has huge pages, risks SIGBUS. */
int piso__memfd_check(int fd, uint64_t size);
/* piso__memfd_size: returns the size in bytes, or -errno. */
int64_t piso__memfd_size(int fd);
/* piso__memfd_backed: returns how many bytes of it are backed by memory; 0 when that is unknown. */
uint64_t piso__memfd_backed(int fd);
/* piso__memfd_has_hole: whether some page of the range is missing, was never written to, or cannot be checked.
 * Where the system is strict (os/cgroup.h), piso__populate and piso__allocate leave no such page. */
bool piso__memfd_has_hole(int fd, uint64_t offset, uint64_t size);
/* piso__map: maps all of it: shared, MAP_NORESERVE, not dumped in core files, not inherited by fork
 * (MADV_DONTFORK where `dontfork`). */
int piso__map(int fd, uint64_t size, bool writable, bool dontfork, void **ret_base);
void piso__unmap(void *base, uint64_t size);
/* piso__populate: backs [offset, offset+size) of the memfd with pages now, so that a later touch cannot raise
 * SIGBUS. -ENOMEM or -ENOSPC when there are none. `base` is the writable mapping: the pages are entered in the
 * page table in the same pass (MADV_POPULATE_WRITE where the kernel has it). */
int piso__populate(int fd, void *base, uint64_t offset, uint64_t size);
/* piso__allocate: backs all of a memfd with pages, without mapping it. 0, -ENOMEM or -ENOSPC. */
int piso__allocate(int fd, uint64_t size);
/* piso__punch: gives the pages of the range back to the system. The range reads as zeros afterwards. */
int piso__punch(int fd, uint64_t offset, uint64_t size);

/* ---- doorbells ---- */

/* Between two processes: a pair of sockets, one for each. Whether a call on an eventfd blocks depends on a flag
 * that every holder can change, so a peer could block this side for ever. For a socket each call specifies it. */
int piso__bell_pair(int ret_fds[2]);
void piso__bell_ring(int fd);  /* makes the other end readable; never blocks, ignores errors */
bool piso__bell_clear(int fd); /* takes rings that came here, never blocks; false once the other end is closed */

/* Within a process: an eventfd, non-blocking. */
int piso__event_create(void);
void piso__event_signal(int fd); /* never blocks, ignores errors */
void piso__event_clear(int fd);  /* makes it not readable */

/* Within a process, without a descriptor: a number in memory. piso__word_wait: waits until it differs from
 * `value`, or timeout_ns (-1: none) has passed. 1; 0 on timeout; -EINTR. piso__word_wake: must be called after
 * a change. */
int piso__word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t timeout_ns);
void piso__word_wake(const _Atomic uint32_t *word);

/* ---- epoll ---- */

int piso__epoll_create(void);
int piso__epoll_add(int epoll_fd, int fd, uint64_t data); /* EPOLLIN */
int piso__epoll_remove(int epoll_fd, int fd);
/* piso__epoll_wait: blocks until something is readable, or timeout_ms (-1: none) has passed. Returns the data
 * of at most `count` (<= 16) of them. */
int piso__epoll_wait(int epoll_fd, uint64_t *ret_data, int count, int timeout_ms);

/* A beacon is a descriptor that is always readable. Enabling it in an epoll wakes every thread that waits
 * there, and the epoll needs no descriptor for that alone. An epoll can contain a descriptor only once, so
 * there are two beacons. */
typedef struct piso__beacon_pair {
    int rung, ended;
} piso__beacon_pair;
/* piso__beacon_take: returns a pair that other users in this process share. 0 or -errno. Must not be given back
 * in a forked process. */
int piso__beacon_take(piso__beacon_pair *ret_pair);
void piso__beacon_give(const piso__beacon_pair *pair);
/* piso__epoll_add_off: adds a beacon, disabled. piso__epoll_switch: enables or disables it; never fails. */
int piso__epoll_add_off(int epoll_fd, int fd);
void piso__epoll_switch(int epoll_fd, int fd, bool on);

#define PISO__POLL_MAX 31
/* piso__poll_in: waits until one of up to PISO__POLL_MAX descriptors (-1: ignored) is readable or hung up, or
 * timeout_ns has passed (-1: none; ppoll, in nanoseconds). Returns a bit mask of the ready ones, 0 on timeout,
 * -EINTR, -errno. */
int piso__poll_in(const int *fds, int count, int64_t timeout_ns);

/* piso__wait_end: waits until process_fd (a pidfd, or -1) is readable or the other end of socket_fd has hung
 * up. Returns a bit mask of these, 0 on timeout, -errno. Packets in the socket are ignored. */
int piso__wait_end(int process_fd, int socket_fd, int64_t timeout_ns);
/* piso__epoll_add_hangup: adds a socket that counts as readable when its other end has hung up. Packets are
 * ignored. */
int piso__epoll_add_hangup(int epoll_fd, int fd, uint64_t data);

/* ---- sockets ---- */

#define PISO__FDS_MAX 16
/* piso__socketpair: makes a pair of AF_UNIX SOCK_SEQPACKET sockets. */
int piso__socketpair(int ret_fds[2]);
/* piso__send_fds: sends one packet with descriptors. 0 or -errno: -EPIPE, without a signal; -EAGAIN when the
 * queue is full: it never waits for the peer. Descriptors under way of all processes of a user count against
 * the sender's soft limit of descriptors, which is raised if necessary. */
int piso__send_fds(int fd, const void *data, size_t size, const int *fds, int count);
/* piso__receive_packet: receives one packet of at most `size` bytes with at most *count descriptors
 * (close-on-exec). Returns how many bytes, and in *count how many descriptors. -EPROTO, with all received
 * descriptors closed, when there is more of either; -EMFILE, with the bytes in place, when this process can
 * have no more descriptors; -ECONNRESET when the peer has gone; -EAGAIN when nonblocking and nothing is there. */
ssize_t piso__receive_packet(int fd, void *data, size_t size, int *ret_fds, int *count, bool nonblocking);
/* piso__receive_fds: receives one packet of exactly `size` bytes with exactly `count` descriptors
 * (close-on-exec); otherwise -EPROTO, with all received descriptors closed. -ECONNRESET when the peer has gone,
 * -EAGAIN when nonblocking and nothing is there. */
int piso__receive_fds(int fd, void *data, size_t size, int *ret_fds, int count, bool nonblocking);

/* piso__peek: reads the first `size` bytes of the next packet, which stays in the socket. Errors are those of
 * piso__receive_fds; a shorter packet is -EPROTO. */
int piso__peek(int fd, void *data, size_t size, bool nonblocking);

/* piso__socket_end: shuts the socket down in both directions; the other end learns of it. 0 or -errno. */
int piso__socket_end(int fd);
/* piso__socket_creator: returns the pid of the process that made the pair, 0 when it has none here (pid
 * namespaces). */
pid_t piso__socket_creator(int fd);

/* ---- time and processors ---- */

/* piso_now_ns is in os/clock.c */
/* piso__cpu_count: returns how many processors this process may use at once: affinity mask and cgroup (v1, v2)
 * quota, rounded up, at least 1. Reads files: call it seldom. */
int piso__cpu_count(void);

/* piso__cpu_current: returns the processor on which this thread runs, or -1. No system call. */
int piso__cpu_current(void);
/* piso__cpu_migrate: moves this thread to another of the processors that it may use. Takes some 40 us. Does
 * nothing where there is only one. */
void piso__cpu_migrate(void);
/* piso__cpu_yield: lets another thread that is ready on this processor run, if there is one. */
void piso__cpu_yield(void);

/* ---- processes ---- */

int piso__pidfd_open(pid_t pid);

/* piso__spawn: starts argv[0] in its own process group with descriptor 0 = stdin_fd, 1 = stdout_fd (-1: this
 * process's), 2 = stderr_fd, PISO__SPAWN_FD = channel_fd, and no other, and with the signal state of a fresh
 * program. Memory is not copied. Returns the pid and its pidfd, or -errno, also that of a failed chdir or exec. */
#define PISO__SPAWN_FD 3
typedef struct piso__spawn_options {
    const char *const *argv, *const *envp;
    const char *cwd; /* or NULL */
    int stdin_fd, stdout_fd, stderr_fd, channel_fd;
    /* NULL, or called in the child, on this memory, when it has no other descriptors left but confine_fd (or
     * -1), under another number; the exec closes that. Its -errno ends the start. */
    int (*confine)(void *argument, int fd);
    void *confine_argument;
    int confine_fd;
    bool *ret_confine_failed; /* with confine: whether confine failed */
} piso__spawn_options;
pid_t piso__spawn(const piso__spawn_options *options, int *ret_pidfd);

/* piso__call_in_child: calls the function in a child process on this memory, like `confine` above, and waits
 * for the child's end. 0, or -errno when it could not be started. */
int piso__call_in_child(int (*function)(void *argument), void *argument);

/* piso__own_files: the entries about a process in its /proc folder, except for its threads and its network.
 * Ends with NULL. */
extern const char *const piso__own_files[];
/* piso__pin_own_entry: keeps /proc/self open for ever, and piso__own_files too where the entries about the
 * network must not be read. A sandbox lets a process read these inodes; under memory pressure the kernel would
 * replace them. */
void piso__pin_own_entry(void);

/* piso__place_fds: makes descriptors from[0..count) the numbers 0..count-1, not close-on-exec, and closes all
 * others. For a forked child. 0 or -errno. */
int piso__place_fds(const int *from, int count);
/* piso__execute: runs the program in a forked child, with the signal state of a fresh program, and closes the
 * descriptors from `first` on. Returns -errno if it cannot. */
int piso__execute(const char *const *argv, const char *const *envp, int first);
/* piso__has_children: whether this process has children that it has not reaped. */
bool piso__has_children(void);
/* piso__adopt_orphans: from now on this process, and each process that it forks, becomes the parent of
 * descendants whose parent has ended. Blocks SIGCHLD. Returns a descriptor that is readable when a child has
 * ended, or -errno. piso__children_clear: makes that descriptor unreadable again. */
int piso__adopt_orphans(void);
void piso__children_clear(int signal_fd);
/* piso__children: returns how many children the calling thread has, which must be the only one, including
 * unreaped ones, and a list that the caller frees; -errno. */
int piso__children(pid_t **ret_pids);
/* piso__child_has_ended: whether an unreaped child has ended. piso__reap_child: the same as piso__reap, by pid. */
bool piso__child_has_ended(pid_t pid);
int piso__reap_child(pid_t pid, piso_exit *ret_exit);
/* piso__kill_child: sends SIGKILL to an unreaped child, and to its process group if it leads one. */
void piso__kill_child(pid_t pid);
/* piso__mount_namespace: returns a number that identifies the mount namespace of an unreaped child. 0; -ENOENT
 * for a child that has ended; -EACCES for one that hides it. */
int piso__mount_namespace(pid_t pid, uint64_t *ret_id);
/* piso__has_no_new_privileges: whether a process can gain no privileges by executing, as is true of all
 * confined ones. */
bool piso__has_no_new_privileges(pid_t pid);
/* piso__thread_count: returns the number of threads of this process; -errno when /proc does not show it. */
int piso__thread_count(void);
/* piso__kill_on_hangup: makes the kernel kill this process's group (SIGKILL) when something happens at the
 * other end of a socket. Used before there is a thread that could wait for it. `on` false ends that. 0 or
 * -errno. */
int piso__kill_on_hangup(int socket_fd, bool on);
/* piso__process_title: sets the name of this process and of its only thread, in the memory of its arguments. */
void piso__process_title(const char *title);
/* piso__memory_share: moves this process's memory so that forked processes can give pages back. The process
 * must have one thread. 0, or -errno: nothing was moved. -EINVAL: it was moved already, or pages are not of 4
 * KiB. When it fails half-way it kills the process. */
int piso__memory_share(void);
/* piso__memory_settle: gives back the pages whose contents are as before the fork. Works once. Does nothing
 * when the process has more than `own_threads` threads; all but the caller must only wait. Returns how many
 * pages. */
int piso__memory_settle(int own_threads);
/* piso__directory_open: opens the current directory, even if it was removed. */
int piso__directory_open(void);
/* piso__directory_enter: makes `path`, or if it is NULL the directory `fd`, the current directory. 0 or -errno. */
int piso__directory_enter(int fd, const char *path);
/* piso__fork: forks this process. The child leads its own process group, which exists when this returns in the
 * parent, and blocks no signals. Returns 0 in the child, else its pid with its pidfd, or -errno. */
pid_t piso__fork(int *ret_pidfd);

/* piso__reap: reaps the process of a pidfd and returns how it ended. 1; 0 when it has not ended; -ECHILD when
 * another part of this process has reaped it. */
int piso__reap(int pidfd, piso_exit *ret_exit);
/* piso__exit_of: returns how a process that is not our child has ended. 0; -ENOTTY and other errors where the
 * kernel does not report it: before 6.15, if the process was reaped; and where this process may not see it, if
 * it was not. */
int piso__exit_of(int pidfd, pid_t pid, piso_exit *ret_exit);
/* piso__kill_group: signals the process group that this process leads or led. The pidfd makes sure that it is
 * no other group; kernels before 6.9 use the number. 0 or -errno. */
int piso__kill_group(int pidfd, pid_t group, int signal);
/* piso__kill_own_group: sends SIGKILL to this process and, if it leads its group, to the whole group. Does not
 * return. */
void piso__kill_own_group(void);

/* piso__thread_start: starts a detached thread with all signals blocked and a small stack. 0 or -errno. */
int piso__thread_start(const char *name, void *(*function)(void *), void *argument);

/* piso__pipe: makes a close-on-exec pipe whose reading end is non-blocking. */
int piso__pipe(int ret_fds[2]);
int piso__open_null(void);
/* piso__read: reads some bytes. Returns how many; 0 at the end; -EAGAIN; -errno. */
ssize_t piso__read(int fd, void *buffer, size_t size);
/* piso__read_at, piso__write_at: access memory or a file at an offset. Return how many bytes, or -errno. */
ssize_t piso__read_at(int fd, void *buffer, size_t size, off_t offset);
ssize_t piso__write_at(int fd, const void *data, size_t size, off_t offset);
/* piso__write_if_ready: writes as much as possible without blocking, and drops the rest. */
void piso__write_if_ready(int fd, const void *data, size_t size);

#endif
