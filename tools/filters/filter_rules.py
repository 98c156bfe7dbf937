"""The system calls that an extension may make, and their arguments. No other system call exists for it.

`generate_filters.py` generates the tables of the sandbox from this file; run it after a change. Errors are
those of an older kernel, or of one built without the feature, since libraries have fallbacks for these. EPERM
means that a key of the configuration, or namespaces, would permit the call.

Arguments are compared by their low 32 bits: all arguments checked here are ints in the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass

OPTIONS = (
    "network",
    "local_sockets",
    "own_sockets",
    "private_ipc",
    "private_disk",
    "private_root",
    "own_signals",
    "own_group",
    "no_holes",
    "devices",
    "no_truncation",
)
"""The bits of piso__filter_options, lowest first."""

OWN_PID = 0x7E57C0DE
"""PISO__FILTER_OWN_PID: replaced by the id of the process when the filter is loaded."""

INT = 0xFFFFFFFF


def names(text: str) -> list[str]:
    """Split a text into the names of system calls."""
    return text.split()


@dataclass(frozen=True)
class Action:
    """What happens to a call: it is permitted, or fails with an error. `reported`: the host is informed."""

    error: int | None
    reported: bool = True


ALLOW = Action(None)


def refuse(error: int) -> Action:
    return Action(error)


@dataclass(frozen=True)
class Argument:
    """True if this argument is one of these values. Only the bits of the mask count."""

    index: int
    values: tuple[int, ...]
    mask: int = INT


@dataclass(frozen=True)
class Option:
    """True if one of these options is set."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class When:
    """The action for a call if all tests are true."""

    tests: tuple[Argument | Option, ...]
    action: Action


def arg(index: int, *values: int, mask: int = INT) -> Argument:
    return Argument(index, values, mask)


def option(*of: str) -> Option:
    return Option(of)


def when(*tests: Argument | Option, then: Action = ALLOW) -> When:
    return When(tests, then)


def otherwise(error: int, *, reported: bool = True) -> When:
    return When((), Action(error, reported))


# ---- permitted calls: they act on the process itself, or on files, which Landlock protects ----

PERMITTED = names("""
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
    creat close close_range dup dup2 dup3 pipe pipe2
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
    getdents getdents64 getcwd chdir fchdir umask mkdir mkdirat rmdir unlink unlinkat rename renameat
    renameat2 link linkat symlink symlinkat
    ftruncate flock fsync fdatasync sync syncfs sync_file_range
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    getxattrat listxattrat
    fadvise64 readahead copy_file_range sendfile splice tee memfd_create

    mmap munmap mprotect mremap msync mincore brk mlock mlock2 munlock mlockall munlockall
    mbind get_mempolicy set_mempolicy pkey_alloc pkey_free pkey_mprotect mseal map_shadow_stack
    set_mempolicy_home_node

    select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
    accept accept4 getsockname getpeername getsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
    shutdown

    fork vfork execve execveat exit exit_group wait4 waitid pidfd_open
    futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list set_tid_address rseq membarrier
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigsuspend rt_sigreturn sigaltstack pause
    restart_syscall
    uretprobe uprobe

    getpid getppid gettid getpgid getpgrp getsid
    getuid geteuid getgid getegid getresuid getresgid getgroups capget
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
    getrlimit setrlimit getrusage times sysinfo uname getcpu getrandom
    getpriority ioprio_get sched_getaffinity sched_getscheduler sched_getparam sched_getattr
    sched_rr_get_interval sched_get_priority_max sched_get_priority_min sched_yield

    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete

    landlock_create_ruleset landlock_add_rule landlock_restrict_self
""")
"""The kernel inserts the calls uretprobe and uprobe into a program that an administrator traces."""

NUMBERS = {
    "uretprobe": ("x86_64", 335),
    "uprobe": ("x86_64", 336),
    "cachestat": ("", 451),
    "fchmodat2": ("", 452),
    "map_shadow_stack": ("", 453),
    "futex_wake": ("", 454),
    "futex_wait": ("", 455),
    "futex_requeue": ("", 456),
    "mseal": ("", 462),
    "setxattrat": ("", 463),
    "getxattrat": ("", 464),
    "listxattrat": ("", 465),
    "removexattrat": ("", 466),
    "set_mempolicy_home_node": ("", 450),
}
"""Calls that libseccomp of 2022 does not know by name. Numbers from 424 on are the same on all machines."""

# ---- files ----

# Landlock does not restrict changes of modes, owners, times and attributes; a read-only file system does.
MODES = names("""
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
""")
ATTRIBUTES = names("""
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    setxattrat removexattrat
""")
# A set-user-ID program outlives its extension, and another user who finds it in a writable path may run it. A
# file created with such a mode loses it when it is written to. The set-group-ID bit is permitted: shared
# folders use it, and copying such a folder sets it.
MODE_OF = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
ON_DISK: dict[str, list[When]] = {
    **{name: [when(option("private_disk")), otherwise(errno.EPERM)] for name in MODES},
    **{
        name: [when(option("private_disk"), arg(index, 0, mask=stat.S_ISUID)), otherwise(errno.EPERM)]
        for name, index in MODE_OF.items()
    },
    **{name: [when(option("private_disk")), otherwise(errno.EOPNOTSUPP)] for name in ATTRIBUTES},
}

# Before its version 3 Landlock has no rule for truncation. A file can be truncated without opening it for
# writing: opening it for reading is enough, or for neither (O_ACCMODE), which Landlock does not restrict.
WITHOUT_WRITING = tuple(mode | os.O_TRUNC for mode in (os.O_RDONLY, os.O_ACCMODE))
TRUNCATION: dict[str, list[When]] = {
    "truncate": [when(option("no_truncation"), then=refuse(errno.EPERM)), when()],
    **{
        name: [
            when(
                option("no_truncation"),
                arg(flags, *WITHOUT_WRITING, mask=os.O_ACCMODE | os.O_TRUNC),
                then=refuse(errno.EPERM),
            ),
            when(),
        ]
        for name, flags in (("open", 1), ("openat", 2))
    },
    "openat2": [when(option("no_truncation"), then=refuse(errno.ENOSYS)), when()],
}

NODES = (0, stat.S_IFREG, stat.S_IFIFO)
PUNCH_HOLE = 2
MADV_REMOVE = 9

# A process that opens a file on which another process has a lease waits for it, by default for 45 seconds. A
# lease needs only read access, which an extension has to the host's modules. F_NOTIFY is an older inotify.
FCNTLS = (
    *(fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC),
    *(fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW, 36, 37, 38),  # the last three: locks of open files
    *(fcntl.F_GETOWN, fcntl.F_GETSIG, fcntl.F_GETLEASE, 16),  # F_GETOWN_EX
    *(1027, 1028),  # F_DUPFD_QUERY, F_CREATED_QUERY
    *(1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038),  # sizes of pipes, seals, hints about writing
)
OWNERS = (fcntl.F_SETOWN, 15, fcntl.F_SETSIG)  # F_SETOWN_EX

FILES: dict[str, list[When]] = {
    **ON_DISK,
    **TRUNCATION,
    "fcntl": [
        when(arg(1, *FCNTLS)),
        when(arg(1, *OWNERS), option("own_signals"), then=refuse(errno.EINVAL)),
        when(arg(1, *OWNERS)),
        otherwise(errno.EINVAL),
    ],
    # It shows which pages of a file others have read. Some libraries call it at each start but do not need
    # it.
    "cachestat": [otherwise(errno.ENOSYS, reported=False)],
    # Devices need CAP_MKNOD; Landlock has rules for the other kinds.
    "mknod": [when(arg(1, *NODES, mask=stat.S_IFMT(0xFFFF))), otherwise(errno.EPERM)],
    "mknodat": [when(arg(2, *NODES, mask=stat.S_IFMT(0xFFFF))), otherwise(errno.EPERM)],
    # Where a missing page can cause SIGBUS, an extension must not remove pages that its host uses.
    "fallocate": [
        when(option("no_holes"), arg(1, PUNCH_HOLE, mask=PUNCH_HOLE), then=refuse(errno.EOPNOTSUPP)),
        when(),
    ],
    "madvise": [when(option("no_holes"), arg(2, MADV_REMOVE), then=refuse(errno.EINVAL)), when()],
    # Landlock has no rule for watching files. So it is permitted only where nothing but readable files can be
    # seen. The kernel counts instances for each user; the namespace limits them.
    **{
        name: [when(option("private_root")), otherwise(errno.ENOSYS)]
        for name in ("inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch")
    },
}

# ---- requests to devices ----

# Queries only: a request that changes a terminal could change the host's, if the output is connected to it.
TERMINALS = (
    *(0x5401, 0x802C542A, 0x540F, 0x5429),  # TCGETS, TCGETS2, TIOCGPGRP, TIOCGSID
    *(0x5411, 0x5413, 0x80045430, 0x80045439),  # TIOCOUTQ, TIOCGWINSZ, TIOCGPTN, TIOCGPTLCK
)
DESCRIPTORS = (
    *(
        0x541B,
        0x5421,
        0x5450,
        0x5451,
        0x5452,
        0x5460,
    ),  # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC, FIOQSIZE
    *(0x2, 0x80086601, 0x80087601, 0x801C581F, 0xC020660B),  # FIGETBSZ, flags, version, attributes, FIEMAP
    *(0x40049409, 0x4020940D),  # FICLONE, FICLONERANGE
    *(0x8905, 0x80045200),  # SIOCATMARK, RNDGETENTCNT
)
WRITE_ATTRIBUTES = (0x40086602, 0x401C5820)  # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR
INTERFACES = (
    *(
        0x8910,
        0x8912,
        0x8913,
        0x8915,
        0x8917,
        0x8919,
        0x891B,
        0x891D,
    ),  # names, list, flags, addresses, metric
    *(0x8921, 0x8927, 0x8933, 0x8942, 0x8946, 0x8970),  # MTU, hardware address, index, queue, ethtool, map
)
# Requests that insert input into a terminal (TIOCSTI, TIOCLINUX, TIOCCONS), that acquire or release it
# (TIOCSCTTY, TIOCNOTTY, TIOCSPGRP, TIOCSETD, TIOCEXCL, TIOCNXCL, TIOCVHANGUP), that suspend its output
# (TCXONC), or that make the kernel send signals to its users (TIOCSIG, FIOSETOWN, SIOCSPGRP). Line settings,
# such as the speed, and the size may be set: serial devices and an extension's own terminals need that.
NEVER = (
    *(0x5412, 0x541C, 0x541D),
    *(0x540E, 0x5422, 0x5410, 0x5423, 0x540C, 0x540D, 0x5437),
    *(0x540A, 0x40045436, 0x8901, 0x8902),
)
# Old families of requests, which encode neither a direction nor a size: fonts, keyboards, colours and
# graphics of consoles (K), switching and locking of consoles (V), loop devices (L), and network interfaces,
# for which any socket can be used. Drivers that use the same letters number their requests in the new way.
OLD_FAMILIES, OLD_FAMILY = (0x4B00, 0x4C00, 0x8900), 0xFFFFFF00
CONSOLES, CONSOLE = (0x5600,), 0xFFFFFFE0  # video devices use V with higher numbers
# All requests with a letter: volumes (device mapper), and queries of a process by its file descriptor, which
# an extension has of its host.
LETTERS, LETTER = (0xFD00, 0xFF00), 0xFF00
# Requests that write a file's attributes: those that write, with the letters of file systems, of any size.
ON_ATTRIBUTES = tuple(1 << 30 | ord(letter) << 8 for letter in "fvX\x94")

IOCTL = [
    when(arg(1, *TERMINALS, *DESCRIPTORS)),
    when(arg(1, *WRITE_ATTRIBUTES), option("private_disk")),
    when(arg(1, *INTERFACES), option("network")),
    # Requests of drivers cannot be listed.
    when(arg(1, *NEVER), then=refuse(errno.ENOTTY)),
    when(arg(1, *OLD_FAMILIES, mask=OLD_FAMILY), then=refuse(errno.ENOTTY)),
    when(arg(1, *CONSOLES, mask=CONSOLE), then=refuse(errno.ENOTTY)),
    when(arg(1, *LETTERS, mask=LETTER), then=refuse(errno.ENOTTY)),
    when(option("devices"), option("private_disk")),
    when(option("devices"), arg(1, *ON_ATTRIBUTES, mask=1 << 30 | 0xFF00), then=refuse(errno.ENOTTY)),
    when(option("devices")),
    otherwise(errno.ENOTTY),
]

# ---- sockets ----

TYPE = 0xF  # of the type, without SOCK_CLOEXEC and SOCK_NONBLOCK
PAIRED = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
"""Never datagram sockets of AF_UNIX, which SOCK_RAW makes too: they send to any name without connecting."""
INTERNET = (socket.AF_INET, socket.AF_INET6)
PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
CONNECTED = option("network", "local_sockets", "own_sockets")
FILTERS = (26, 50, 51, 52)  # SO_ATTACH_FILTER, SO_ATTACH_BPF, for SO_REUSEPORT
TCP_ULP = 31

SOCKETS: dict[str, list[When]] = {
    "socket": [
        when(arg(0, socket.AF_UNIX), arg(1, *PAIRED, mask=TYPE), option("local_sockets", "own_sockets")),
        # Without 'network' it cannot be connected to anything. With 'network', connecting is permitted, so
        # the socket is not.
        when(arg(0, socket.AF_UNIX), arg(1, *PAIRED, mask=TYPE), option("network"), then=refuse(errno.EPERM)),
        when(arg(0, socket.AF_UNIX), arg(1, *PAIRED, mask=TYPE)),
        when(arg(0, socket.AF_UNIX), then=refuse(errno.ESOCKTNOSUPPORT)),
        when(
            option("network"),
            arg(0, *INTERNET),
            arg(1, socket.SOCK_STREAM, socket.SOCK_DGRAM, mask=TYPE),
            arg(2, *PROTOCOLS),
        ),
        when(option("network"), arg(0, *INTERNET), then=refuse(errno.EPROTONOSUPPORT)),
        # Name resolution queries addresses by NETLINK_ROUTE, which is 0.
        when(option("network"), arg(0, socket.AF_NETLINK), arg(2, 0)),
        when(option("network"), arg(0, socket.AF_NETLINK), then=refuse(errno.EPROTONOSUPPORT)),
        when(arg(0, *INTERNET, socket.AF_NETLINK), then=refuse(errno.EPERM)),
        otherwise(errno.EAFNOSUPPORT),
    ],
    "socketpair": [
        when(arg(0, socket.AF_UNIX), arg(1, *PAIRED, mask=TYPE)),
        when(arg(0, socket.AF_UNIX), then=refuse(errno.ESOCKTNOSUPPORT)),
        otherwise(errno.EAFNOSUPPORT),
    ],
    # Landlock has no rule for sockets in the file system, such as a container daemon's. So either no socket
    # can connect, or there are no such sockets.
    "connect": [when(CONNECTED), otherwise(errno.EPERM)],
    # A program must not be deceived by an extension that listens on an abstract socket of a known name.
    "bind": [when(CONNECTED), otherwise(errno.EPERM)],
    "listen": [when(CONNECTED), otherwise(errno.EPERM)],
    # SO_LINGER appears to succeed and does nothing: the process that closes a lingering socket waits for the
    # given time, and that can be the host, after the socket was sent to it.
    "setsockopt": [
        when(arg(1, socket.SOL_SOCKET), arg(2, socket.SO_LINGER), then=Action(0, reported=False)),
        when(arg(1, socket.SOL_SOCKET), arg(2, *FILTERS), then=refuse(errno.ENOPROTOOPT)),
        when(arg(1, socket.IPPROTO_TCP), arg(2, TCP_ULP), then=refuse(errno.ENOPROTOOPT)),
        when(),
    ],
}

# ---- processes ----

NAMESPACES = 0x7E020000  # CLONE_NEW...
CLONE_PARENT = 0x8000  # makes a child of the parent: the host would have to reap it without knowing of it
UNSHARED = 0x40600  # CLONE_FILES, CLONE_FS, CLONE_SYSVSEM
SELF = (0, OWN_PID)
MINE = [when(arg(0, *SELF)), otherwise(errno.ESRCH)]
"""For calls that can act on any process of the same user: permitted only on this process or thread. Other
processes do not exist."""

PRCTLS = (
    *(
        1,
        2,
        3,
        4,
        7,
        13,
        15,
        16,
        19,
        21,
        22,
        23,
        24,
        25,
        27,
    ),  # death signal, dumpable, name, seccomp, capabilities
    *(29, 30, 36, 37, 38, 39, 41, 42, 52, 53),  # timer slack, subreaper, privileges, huge pages, speculation
    *(
        50,
        51,
        54,
        55,
        56,
        60,
        61,
        63,
        64,
        65,
        66,
    ),  # vectors and pointers of ARM, memory that is not executable
    *(74, 75, 76, 78),  # shadow stacks, hashes of futexes
    *(0x53564D41, 0x41555856),  # PR_SET_VMA, PR_GET_AUXV
    0x59616D61,  # PR_SET_PTRACER, which CUDA's driver needs; tracing is refused anyway
)
PR_CAP_AMBIENT = 47
ARCH_PRCTLS = (
    *(0x1001, 0x1002, 0x1003, 0x1004, 0x1011),  # registers, CPUID
    *(0x1021, 0x1022, 0x1023, 0x1024, 0x1025),  # large registers, as for AMX
    *(0x3001, 0x5001, 0x5002, 0x5003, 0x5004, 0x5005),  # shadow stacks
)
NEW_LISTENER = 0x8

# Without Landlock's rule for signals: only to this process and, with kill, to its group.
OWN_SIGNALS = option("own_signals")
TO_SELF = [
    when(arg(0, OWN_PID)),
    when(OWN_SIGNALS, then=refuse(errno.EPERM)),
    when(),
]

PROCESSES: dict[str, list[When]] = {
    # clone3 has its flags in memory, where a filter cannot read them. Without it the C library uses clone.
    "clone3": [otherwise(errno.ENOSYS, reported=False)],
    "clone": [when(arg(0, 0, mask=NAMESPACES | CLONE_PARENT)), otherwise(errno.EINVAL)],
    "unshare": [when(arg(0, 0, mask=INT & ~UNSHARED)), otherwise(errno.EINVAL)],
    # Only the default and queries: no implicit executable memory, no fixed addresses.
    "personality": [when(arg(0, INT, 0)), otherwise(errno.EINVAL)],
    "prctl": [
        when(arg(0, *PRCTLS)),
        when(arg(0, PR_CAP_AMBIENT), arg(1, 1, 4)),  # to query, to clear all
        otherwise(errno.EINVAL),
    ],
    "arch_prctl": [when(arg(0, *ARCH_PRCTLS)), otherwise(errno.EINVAL)],
    "seccomp": [
        when(arg(0, 0, 2)),
        when(arg(0, 1), arg(1, 0, mask=NEW_LISTENER)),
        otherwise(errno.EINVAL),
    ],
    "prlimit64": MINE,
    "sched_setaffinity": MINE,
    "sched_setscheduler": MINE,
    "sched_setparam": MINE,
    "sched_setattr": MINE,
    "setpriority": [when(arg(0, 0), arg(1, *SELF)), otherwise(errno.ESRCH)],  # PRIO_PROCESS
    "ioprio_set": [when(arg(0, 1), arg(1, *SELF)), otherwise(errno.ESRCH)],  # IOPRIO_WHO_PROCESS
    "kill": [when(arg(0, 0)), *TO_SELF],
    "tgkill": TO_SELF,
    "rt_sigqueueinfo": TO_SELF,
    "rt_tgsigqueueinfo": TO_SELF,
    "tkill": [when(OWN_SIGNALS, then=refuse(errno.EPERM)), when()],
    "pidfd_send_signal": [when(OWN_SIGNALS, then=refuse(errno.EPERM)), when()],
    # Without a mount namespace, which identifies the extension's processes, one that leaves the process group
    # is not killed with it.
    "setsid": [when(option("own_group"), then=refuse(errno.EPERM)), when()],
    # A process must not join another group, because signals to its own group are permitted.
    "setpgid": [
        when(option("own_group"), then=refuse(errno.EPERM)),
        when(OWN_SIGNALS, arg(1, 0)),
        when(OWN_SIGNALS, then=refuse(errno.EPERM)),
        when(),
    ],
}

# ---- calls that only an IPC namespace isolates ----

IPC: dict[str, list[When]] = {
    name: [when(option("private_ipc")), otherwise(errno.ENOSYS)]
    for name in names("""
        shmget shmat shmdt shmctl semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """)
}

CHECKED: dict[str, list[When]] = {**FILES, "ioctl": IOCTL, **SOCKETS, **PROCESSES, **IPC}
UNKNOWN = refuse(errno.ENOSYS)
