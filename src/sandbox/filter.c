/* filter.c - which system calls an extension may not make, as a program for seccomp.
 *
 * It is a list of refusals, in two parts. What the kernel offers to administrators and debuggers, and what has been
 * the way out of other sandboxes, is refused always: an extension has no use for it. What acts on other processes or
 * on files by name is refused where no other layer stops it. Calls that are newer than this list get ENOSYS, as on an
 * older kernel, so that what nobody has looked at yet is not allowed.
 *
 * Arguments that the kernel takes as 32 bits are compared as 32 bits, else a bit above would get past. */
#include "sandbox/internal.h"

#ifdef PISO_HAVE_SECCOMP

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

#define NEWEST_CALL 462 /* mseal, Linux 6.10: the last that this list knows; numbers are the same on all machines */
#define INT_MASK    0xffffffffU
#define LOWEST(arg) ((uint32_t)offsetof(struct seccomp_data, args[arg])) /* its low 32 bits, little endian */

#define CLONE_ANY_NAMESPACE                                                                                            \
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)

/* By name, since headers may be older than the kernel; what libseccomp does not know by name is in `newer`. */
static const char *const never[] = {
    /* other processes */
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "pidfd_getfd",
    "kcmp",
    "migrate_pages",
    "move_pages",
    "get_robust_list",
    "lookup_dcookie",
    /* namespaces and mounts */
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    /* interfaces with a history */
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "add_key",
    "request_key",
    "keyctl",
    "fanotify_init",
    "fanotify_mark",
    "inotify_init", /* instances are counted for each user: an extension could use up the host's */
    "inotify_init1",
    "inotify_add_watch",
    "open_by_handle_at",
    "name_to_handle_at",
    "memfd_secret",
    "vmsplice",
    "modify_ldt",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "nfsservctl",
    "remap_file_pages",
    /* administration */
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "settimeofday",
    "stime",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "sethostname",
    "setdomainname",
    "acct",
    "quotactl",
    "quotactl_fd",
    "syslog",
    "vhangup",
    "iopl",
    "ioperm",
    "vm86",
    "vm86old",
    "mknod",
    "mknodat",
    "vserver",
};
static const int newer[] = {457 /* statmount */, 458 /* listmount */};

/* Without a file system that is read-only: Landlock lets everybody change modes, owners, times and attributes. */
static const char *const on_names[] = {
    "chmod",    "fchmod",    "fchmodat",  "chown",       "fchown",       "lchown",       "fchownat",
    "chown32",  "fchown32",  "lchown32",  "utime",       "utimes",       "utimensat",    "futimesat",
    "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
};
static const int on_names_newer[] = {452 /* fchmodat2 */};

/* Without an IPC namespace. */
static const char *const ipc[] = {
    "shmget", "shmat",  "shmctl", "semget", "semop",   "semctl",    "semtimedop",
    "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
};

/* Calls that act on any process of the same user. The argument has to be 0: this process, or this thread. */
static const struct {
    const char *name;
    int argument;
} on_self[] = {
    {"prlimit64", 0},     {"sched_setaffinity", 0}, {"sched_setscheduler", 0}, {"sched_setparam", 0},
    {"sched_setattr", 0}, {"setpriority", 0},       {"setpriority", 1},        {"ioprio_set", 1},
};

static const unsigned long ioctls[] = {
    TIOCSTI, /* types into the terminal */
    TIOCLINUX, TIOCCONS, TIOCSCTTY, TIOCSPGRP,
};
static const unsigned long signal_ioctls[] = {FIOSETOWN, SIOCSPGRP};

/* Whoever opens a file that another process has a lease on waits for it, 45 seconds by default, and a lease needs no
 * more than that the file can be read: the host's modules can. F_NOTIFY is inotify by another name. */
static const int fcntls[] = {F_SETLEASE, F_NOTIFY};

/* Without a file system that is read-only: attributes of files that are open for reading. Other requests with these
 * letters write, too, to what a file system keeps about a file, among them fs-verity's, which makes it unchangeable. */
#define WRITES_ATTRIBUTES(letter)                                                                                      \
    ((unsigned long)_IOC_WRITE << _IOC_DIRSHIFT | (unsigned long)(letter) << _IOC_TYPESHIFT)
#define ATTRIBUTES_MASK WRITES_ATTRIBUTES(0xff)
static const unsigned long attribute_ioctls[] = {
    WRITES_ATTRIBUTES('f'),  /* FS_IOC_SETFLAGS, FS_IOC_ENABLE_VERITY, ... */
    WRITES_ATTRIBUTES('v'),  /* FS_IOC_SETVERSION */
    WRITES_ATTRIBUTES('X'),  /* FS_IOC_FSSETXATTR, those of XFS */
    WRITES_ATTRIBUTES(0x94), /* btrfs: subvolumes, snapshots; also FICLONE, for which copies do without */
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* refuse: what this machine has no number for is passed over. */
static int refuse(scmp_filter_ctx c, int error, int call, unsigned count, const struct scmp_arg_cmp *compare) {
    if (call == __NR_SCMP_ERROR)
        return 0;
    int r = seccomp_rule_add_array(c, SCMP_ACT_ERRNO((unsigned)error), call, count, compare);
    return r == -EDOM || r == -EEXIST ? 0 : r;
}

static int refuse_named(scmp_filter_ctx c, const char *name, unsigned count, const struct scmp_arg_cmp *compare) {
    return refuse(c, EPERM, seccomp_syscall_resolve_name(name), count, compare);
}

static int refuse_all(scmp_filter_ctx c, const char *const *names, size_t count) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = refuse_named(c, names[i], 0, NULL);
    return r;
}

static int refuse_numbers(scmp_filter_ctx c, const int *numbers, size_t count) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = refuse(c, EPERM, numbers[i], 0, NULL);
    return r;
}

static int refuse_ioctls(scmp_filter_ctx c, const unsigned long *requests, size_t count) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = refuse_named(c, "ioctl", 1, &SCMP_A1(SCMP_CMP_MASKED_EQ, INT_MASK, requests[i]));
    return r;
}

/* refuse_arguments: calls that are refused for some arguments only. clone3 has its flags in memory, where a filter
 * cannot see them; without it the C library uses clone. */
static int refuse_arguments(scmp_filter_ctx c) {
    int r = refuse(c, ENOSYS, seccomp_syscall_resolve_name("clone3"), 0, NULL);
    for (int bit = 0; r == 0 && bit < 32; bit++)
        if (CLONE_ANY_NAMESPACE & (1U << bit))
            r = refuse_named(c, "clone", 1, &SCMP_A0(SCMP_CMP_MASKED_EQ, 1U << bit, 1U << bit));
    /* a child of our parent's: the host would have to reap it and does not know of it */
    if (r == 0)
        r = refuse_named(c, "clone", 1, &SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_PARENT, CLONE_PARENT));
    for (size_t i = 0; r == 0 && i < COUNT(fcntls); i++)
        r = refuse_named(c, "fcntl", 1, &SCMP_A1(SCMP_CMP_MASKED_EQ, INT_MASK, (unsigned)fcntls[i]));
    for (size_t i = 0; r == 0 && i < COUNT(on_self); i++)
        r = refuse_named(c, on_self[i].name, 1, &SCMP_CMP((unsigned)on_self[i].argument, SCMP_CMP_NE, 0, 0));
    /* personality: asking is allowed, changing is not: no more executable memory than asked for, no fixed addresses */
    if (r == 0)
        r = refuse_named(c, "personality", 1, &SCMP_A0(SCMP_CMP_NE, INT_MASK, 0));
    return r == 0 ? refuse_ioctls(c, ioctls, COUNT(ioctls)) : r;
}

/* refuse_sockets: Landlock does not know sockets in the file system, such as a container daemon's or a desktop's:
 * nobody may connect to one. So either connect is refused, or sockets that can; unconnected datagram sockets, which
 * need no connect, always. Pairs of connected sockets remain. `local`: the configuration permits all of it. `own`: in
 * its root there are no sockets but its own, so that it may connect to all that it sees. */
static int refuse_sockets(scmp_filter_ctx c, bool network, bool local, bool own) {
    const struct scmp_arg_cmp datagrams[] = {SCMP_A0(SCMP_CMP_MASKED_EQ, INT_MASK, AF_UNIX),
                                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM)};
    int r = local ? 0 : refuse_named(c, "socketpair", 2, datagrams);
    if (r == 0)
        r = refuse_named(c, "socket", 1, &SCMP_A0(SCMP_CMP_GE, AF_MAX, 0));
    for (unsigned family = 0; r == 0 && family < AF_MAX; family++) {
        if (family == AF_UNIX ? local || own || !network
                              : network && (family == AF_INET || family == AF_INET6 || family == AF_NETLINK))
            continue;
        r = refuse_named(c, "socket", 1, &SCMP_A0(SCMP_CMP_MASKED_EQ, INT_MASK, family));
    }
    if (r == 0 && network) /* looking up names asks for addresses by NETLINK_ROUTE, which is 0 */
        r = refuse_named(c, "socket", 2,
                         (const struct scmp_arg_cmp[]){SCMP_A0(SCMP_CMP_MASKED_EQ, INT_MASK, AF_NETLINK),
                                                       SCMP_A2(SCMP_CMP_NE, 0, 0)});
    if (r == 0 && (own || !network) && !local)
        r = refuse_named(c, "socket", 2, datagrams);
    /* SO_LINGER seems to work and does nothing: whoever closes a socket that lingers waits for as long as it says, and
     * that can be the host, when the socket has been sent to it. */
    const struct scmp_arg_cmp linger[] = {SCMP_A1(SCMP_CMP_MASKED_EQ, INT_MASK, SOL_SOCKET),
                                          SCMP_A2(SCMP_CMP_MASKED_EQ, INT_MASK, SO_LINGER)};
    if (r == 0)
        r = refuse(c, 0, seccomp_syscall_resolve_name("setsockopt"), 2, linger);
    /* who cannot connect has no use for a name, which in the abstract space a host may take for that of another */
    static const char *const addresses[] = {"connect", "bind", "listen"};
    return r == 0 && !network && !local && !own ? refuse_all(c, addresses, COUNT(addresses)) : r;
}

/* refuse_signals: the ways to a signal that need no process id; the others are in `head`. A process may not join
 * another group, because signals to the own group are allowed. */
static int refuse_signals(scmp_filter_ctx c) {
    static const int owners[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG};
    int r = refuse_ioctls(c, signal_ioctls, COUNT(signal_ioctls));
    for (size_t i = 0; r == 0 && i < COUNT(owners); i++)
        r = refuse_named(c, "fcntl", 1, &SCMP_A1(SCMP_CMP_MASKED_EQ, INT_MASK, (unsigned)owners[i]));
    if (r == 0)
        r = refuse_named(c, "setpgid", 1, &SCMP_A1(SCMP_CMP_NE, 0, 0));
    if (r == 0)
        r = refuse_named(c, "tkill", 0, NULL);
    return r == 0 ? refuse_named(c, "pidfd_send_signal", 0, NULL) : r;
}

/* refuse_holes: where a page that is missing can be a SIGBUS, an extension may not take one from under its host. */
static int refuse_holes(scmp_filter_ctx c) {
    int r = refuse_named(c, "fallocate", 1, &SCMP_A1(SCMP_CMP_MASKED_EQ, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE));
    return r == 0 ? refuse_named(c, "madvise", 1, &SCMP_A2(SCMP_CMP_MASKED_EQ, INT_MASK, MADV_REMOVE)) : r;
}

static int fill(scmp_filter_ctx c, piso__filter_options o) {
    int r = seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree; older libraries have none */
    if (r == 0)
        r = refuse_all(c, never, COUNT(never));
    if (r == 0)
        r = refuse_numbers(c, newer, COUNT(newer));
    if (r == 0)
        r = refuse_arguments(c);
    if (r == 0)
        r = refuse_sockets(c, o.network, o.local_sockets, o.own_sockets);
    if (r == 0 && !o.private_disk)
        r = refuse_all(c, on_names, COUNT(on_names));
    if (r == 0 && !o.private_disk)
        r = refuse_numbers(c, on_names_newer, COUNT(on_names_newer));
    for (size_t i = 0; r == 0 && !o.private_disk && i < COUNT(attribute_ioctls); i++)
        r = refuse_named(c, "ioctl", 1, &SCMP_A1(SCMP_CMP_MASKED_EQ, ATTRIBUTES_MASK, attribute_ioctls[i]));
    if (r == 0 && !o.private_ipc)
        r = refuse_all(c, ipc, COUNT(ipc));
    if (r == 0 && o.no_holes)
        r = refuse_holes(c);
    return r == 0 && o.own_signals ? refuse_signals(c) : r;
}

/* ---- what libseccomp cannot express, before its program ---- */

#define LOAD(offset)              (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define JUMP(how, value, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | (how) | BPF_K, (uint32_t)(value), yes, no)
#define REFUSE(error)             (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define HEAD_MAX                  32

/* head: calls that nobody knows yet; signals to none but this process and, with kill, its group. */
static size_t head(struct sock_filter *to, piso__filter_options o) {
    static const int by_process[] = {SYS_kill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo};
    size_t n = 0;
    to[n++] = LOAD(offsetof(struct seccomp_data, nr));
    to[n++] = JUMP(BPF_JGT, NEWEST_CALL, 0, 1);
    to[n++] = REFUSE(ENOSYS);
    for (size_t i = 0; o.own_signals && i < COUNT(by_process); i++) {
        to[n++] = JUMP(BPF_JEQ, by_process[i], 0, 5);
        to[n++] = LOAD(LOWEST(0));
        to[n++] = JUMP(BPF_JEQ, PISO__FILTER_OWN_PID, 2, 0);
        to[n++] = JUMP(BPF_JEQ, by_process[i] == SYS_kill ? 0 : PISO__FILTER_OWN_PID, 1, 0);
        to[n++] = REFUSE(EPERM);
        to[n++] = LOAD(offsetof(struct seccomp_data, nr));
    }
    return n;
}

/* export: the program behind what `head` made. */
static int export(scmp_filter_ctx c, piso__filter_options o, struct sock_filter **ret_program) {
    struct sock_filter start[HEAD_MAX];
    size_t n = head(start, o), first = n * sizeof *start;
    piso__autoclose int fd = memfd_create("piso-filter", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : seccomp_export_bpf(c, fd);
    off_t size = r < 0 ? r : lseek(fd, 0, SEEK_END);
    if (size < 0)
        return r < 0 ? r : -errno;
    size_t total = first + (size_t)size;
    if (total / sizeof *start > BPF_MAXINSNS)
        return -E2BIG;
    struct sock_filter *program = malloc(total);
    if (!program)
        return -ENOMEM;
    memcpy(program, start, first);
    if (pread(fd, program + n, (size_t)size, 0) != size) {
        free(program);
        return -EIO;
    }
    *ret_program = program;
    return (int)(total / sizeof *start);
}

static int build(piso__filter_options o, struct sock_filter **ret_program) {
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_ALLOW);
    if (!c)
        return -ENOMEM;
    int r = fill(c, o);
    if (r == 0)
        r = export(c, o, ret_program);
    seccomp_release(c);
    return r;
}

typedef struct kept_program {
    int count;
    struct sock_filter *program;
} kept_program;

/* Building takes milliseconds, and there are few different programs: each is kept, the first one that is built. */
static _Atomic(kept_program *) kept[128];

/* keep: builds what is not there yet. NULL with *ret_error set. */
static const kept_program *keep(_Atomic(kept_program *) *place, piso__filter_options o, int *ret_error) {
    kept_program *now = malloc(sizeof *now), *before = NULL;
    int r = now ? build(o, &now->program) : -ENOMEM;
    if (r <= 0) {
        free(now);
        *ret_error = r;
        return NULL;
    }
    now->count = r;
    if (atomic_compare_exchange_strong_explicit(place, &before, now, memory_order_acq_rel, memory_order_acquire))
        return now;
    free(now->program);
    free(now);
    return before;
}

int piso__filter_build(piso__filter_options o, struct sock_filter **ret_program) {
    size_t key = (size_t)(o.network | o.private_ipc << 1 | o.private_disk << 2 | o.own_signals << 3 |
                          o.local_sockets << 4 | o.no_holes << 5 | o.own_sockets << 6);
    int error = 0;
    const kept_program *k = atomic_load_explicit(&kept[key], memory_order_acquire);
    if (!k && !(k = keep(&kept[key], o, &error)))
        return error;
    struct sock_filter *copy = malloc((size_t)k->count * sizeof *copy);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, k->program, (size_t)k->count * sizeof *copy);
    *ret_program = copy;
    return k->count;
}

#else

int piso__filter_build(piso__filter_options o, struct sock_filter **ret_program) {
    (void)o;
    (void)ret_program;
    return -ENOSYS;
}

#endif
