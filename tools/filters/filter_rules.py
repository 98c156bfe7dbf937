"""Which system calls an extension may make, and with which arguments. What is not here does not exist for it.

`generate_filters.py` makes the tables of the sandbox of this file; run it after a change. Errors are those of
an older kernel, or of one that was built without the feature, since libraries have fall-backs for these.
EPERM says that a key of the configuration, or namespaces, would permit the call.

An argument is compared by its low 32 bits: all that are checked here are ints for the kernel.
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
"""The bits of piso__filter_options, the lowest first."""

OWN_PID = 0x7E57C0DE
"""PISO__FILTER_OWN_PID: replaced by the id of the process when the filter is loaded."""

INT = 0xFFFFFFFF


def names(text: str) -> list[str]:
    """The names of system calls in a text."""
    return text.split()


@dataclass(frozen=True)
class Action:
    """What becomes of a call: permitted without an error, else the error; `told` to the host or not."""

    error: int | None
    told: bool = True


ALLOW = Action(None)


def refuse(error: int) -> Action:
    return Action(error)


@dataclass(frozen=True)
class Argument:
    """True if this argument, of which only the bits of the mask count, is one of these values."""

    index: int
    values: tuple[int, ...]
    mask: int = INT


@dataclass(frozen=True)
class Option:
    """True if one of these options is set."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class When:
    """The action of a call for which all of these are true."""

    tests: tuple[Argument | Option, ...]
    action: Action


def arg(index: int, *values: int, mask: int = INT) -> Argument:
    return Argument(index, values, mask)


def option(*of: str) -> Option:
    return Option(of)


def when(*tests: Argument | Option, then: Action = ALLOW) -> When:
    return When(tests, then)


def otherwise(error: int, *, told: bool = True) -> When:
    return When((), Action(error, told))


# ---- what everybody may call: it acts on the process itself, or on files, about which Landlock decides ----

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
"""uretprobe and uprobe are calls that the kernel writes into a program which an administrator looks into."""

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
"""Calls that libraries of 2022 do not know by name. Numbers from 424 on are the same on all machines."""

# ---- files ----

# Landlock lets everybody change modes, owners, times and attributes; a file system that is read-only does
# not.
MODES = names("""
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
""")
ATTRIBUTES = names("""
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    setxattrat removexattrat
""")
# A program that runs with the rights of its owner outlives its extension, and whoever finds it in a writable
# path may run it. What is made with such a mode loses it when something is written to it. The bit for groups
# is what folders are shared by, and copying one sets it.
MODE_OF = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
ON_DISK: dict[str, list[When]] = {
    **{name: [when(option("private_disk")), otherwise(errno.EPERM)] for name in MODES},
    **{
        name: [when(option("private_disk"), arg(index, 0, mask=stat.S_ISUID)), otherwise(errno.EPERM)]
        for name, index in MODE_OF.items()
    },
    **{name: [when(option("private_disk")), otherwise(errno.EOPNOTSUPP)] for name in ATTRIBUTES},
}

# Before its version 3 Landlock has no rule on truncating. A file need not be opened for writing for that:
# for reading is enough, or for neither (O_ACCMODE), which Landlock lets everybody do.
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

# Whoever opens a file that another process has a lease on waits for it, 45 seconds by default, and a lease
# needs no more than that the file can be read: the host's modules can. F_NOTIFY is inotify by another name.
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
    # Which pages of a file others have read. Some libraries ask at each start, and do without.
    "cachestat": [otherwise(errno.ENOSYS, told=False)],
    # Devices need CAP_MKNOD, and Landlock rules on the rest.
    "mknod": [when(arg(1, *NODES, mask=stat.S_IFMT(0xFFFF))), otherwise(errno.EPERM)],
    "mknodat": [when(arg(2, *NODES, mask=stat.S_IFMT(0xFFFF))), otherwise(errno.EPERM)],
    # Where a page that is missing can be a SIGBUS, an extension may not take one from under its host.
    "fallocate": [
        when(option("no_holes"), arg(1, PUNCH_HOLE, mask=PUNCH_HOLE), then=refuse(errno.EOPNOTSUPP)),
        when(),
    ],
    "madvise": [when(option("no_holes"), arg(2, MADV_REMOVE), then=refuse(errno.EINVAL)), when()],
    # Landlock has no rule for watching. So only where nothing can be seen but what may be read; instances,
    # which the kernel counts for each user, are limited by the namespace.
    **{
        name: [when(option("private_root")), otherwise(errno.ENOSYS)]
        for name in ("inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch")
    },
}

# ---- requests to devices ----

# Questions only: what changes a terminal could change the host's, which the output may be.
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
# What types into a terminal, takes one over or gives it up, holds up its output, or makes the kernel send
# signals to who uses it: TIOCSTI, TIOCLINUX, TIOCCONS; TIOCSCTTY, TIOCNOTTY, TIOCSPGRP, TIOCSETD, TIOCEXCL,
# TIOCNXCL, TIOCVHANGUP; TCXONC; TIOCSIG, FIOSETOWN, SIOCSPGRP. The speed and the like of a line may be set,
# and so may its size: serial devices and terminals of its own need it.
NEVER = (
    *(0x5412, 0x541C, 0x541D),
    *(0x540E, 0x5422, 0x5410, 0x5423, 0x540C, 0x540D, 0x5437),
    *(0x540A, 0x40045436, 0x8901, 0x8902),
)
# Old families of requests, which have neither a direction nor a size: consoles' fonts, keyboards, colours and
# graphics (K), switching and locking of consoles (V), disks made of files (L), and of interfaces of the
# network, which can be asked by any socket. Drivers with the same letters number theirs in the new way.
OLD_FAMILIES, OLD_FAMILY = (0x4B00, 0x4C00, 0x8900), 0xFFFFFF00
CONSOLES, CONSOLE = (0x5600,), 0xFFFFFFE0  # video devices have a V above
# Of whole letters: volumes; what a descriptor of a process tells of it, which an extension has of its host.
LETTERS, LETTER = (0xFD00, 0xFF00), 0xFF00
# What writes to what a file system keeps about a file: requests that write, of its letters, with any size.
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
"""A datagram socket of AF_UNIX, which SOCK_RAW makes, too, sends to every name without connecting: never."""
INTERNET = (socket.AF_INET, socket.AF_INET6)
PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
CONNECTED = option("network", "local_sockets", "own_sockets")
FILTERS = (26, 50, 51, 52)  # SO_ATTACH_FILTER, SO_ATTACH_BPF, for SO_REUSEPORT
TCP_ULP = 31

SOCKETS: dict[str, list[When]] = {
    "socket": [
        when(arg(0, socket.AF_UNIX), arg(1, *PAIRED, mask=TYPE), option("local_sockets", "own_sockets")),
        # One that is not connected to anything. With network, connecting is permitted, so it is not.
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
        # Looking up names asks for addresses by NETLINK_ROUTE, which is 0.
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
    # Landlock has no rule for sockets in the file system, such as a container daemon's. So either nothing can
    # be connected to, or there are no sockets that can.
    "connect": [when(CONNECTED), otherwise(errno.EPERM)],
    # Nobody can be sure of the name of an abstract socket that an extension listens on.
    "bind": [when(CONNECTED), otherwise(errno.EPERM)],
    "listen": [when(CONNECTED), otherwise(errno.EPERM)],
    # SO_LINGER seems to work and does nothing: whoever closes a socket that lingers waits for as long as it
    # says, and that can be the host, when the socket has been sent to it.
    "setsockopt": [
        when(arg(1, socket.SOL_SOCKET), arg(2, socket.SO_LINGER), then=Action(0, told=False)),
        when(arg(1, socket.SOL_SOCKET), arg(2, *FILTERS), then=refuse(errno.ENOPROTOOPT)),
        when(arg(1, socket.IPPROTO_TCP), arg(2, TCP_ULP), then=refuse(errno.ENOPROTOOPT)),
        when(),
    ],
}

# ---- processes ----

NAMESPACES = 0x7E020000  # CLONE_NEW...
CLONE_PARENT = 0x8000  # a child of our parent's: the host would have to reap it and does not know of it
UNSHARED = 0x40600  # CLONE_FILES, CLONE_FS, CLONE_SYSVSEM
SELF = (0, OWN_PID)
MINE = [when(arg(0, *SELF)), otherwise(errno.ESRCH)]
"""Calls that act on any process of the same user: on this process or this thread. Others do not exist."""

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
    0x59616D61,  # PR_SET_PTRACER, which CUDA's driver asks for; tracing is refused all the same
)
PR_CAP_AMBIENT = 47
ARCH_PRCTLS = (
    *(0x1001, 0x1002, 0x1003, 0x1004, 0x1011),  # registers, CPUID
    *(0x1021, 0x1022, 0x1023, 0x1024, 0x1025),  # large registers, as for AMX
    *(0x3001, 0x5001, 0x5002, 0x5003, 0x5004, 0x5005),  # shadow stacks
)
NEW_LISTENER = 0x8

# Without Landlock's rule on signals: to none but this process and, with kill, its group.
OWN_SIGNALS = option("own_signals")
TO_SELF = [
    when(arg(0, OWN_PID)),
    when(OWN_SIGNALS, then=refuse(errno.EPERM)),
    when(),
]

PROCESSES: dict[str, list[When]] = {
    # clone3 has its flags in memory, where a filter cannot see them; without it the C library uses clone.
    "clone3": [otherwise(errno.ENOSYS, told=False)],
    "clone": [when(arg(0, 0, mask=NAMESPACES | CLONE_PARENT)), otherwise(errno.EINVAL)],
    "unshare": [when(arg(0, 0, mask=INT & ~UNSHARED)), otherwise(errno.EINVAL)],
    # No more executable memory than asked for, no fixed addresses.
    "personality": [when(arg(0, INT, 0)), otherwise(errno.EINVAL)],
    "prctl": [
        when(arg(0, *PRCTLS)),
        when(arg(0, PR_CAP_AMBIENT), arg(1, 1, 4)),  # to ask, to have none
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
    # Without a mount namespace, by which its processes are known, what leaves the group is not killed with
    # it.
    "setsid": [when(option("own_group"), then=refuse(errno.EPERM)), when()],
    # A process may not join another group, because signals to the own group are allowed.
    "setpgid": [
        when(option("own_group"), then=refuse(errno.EPERM)),
        when(OWN_SIGNALS, arg(1, 0)),
        when(OWN_SIGNALS, then=refuse(errno.EPERM)),
        when(),
    ],
}

# ---- what only an IPC namespace keeps apart ----

IPC: dict[str, list[When]] = {
    name: [when(option("private_ipc")), otherwise(errno.ENOSYS)]
    for name in names("""
        shmget shmat shmdt shmctl semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """)
}

CHECKED: dict[str, list[When]] = {**FILES, "ioctl": IOCTL, **SOCKETS, **PROCESSES, **IPC}
UNKNOWN = refuse(errno.ENOSYS)
