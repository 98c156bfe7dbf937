"""Functions for these attempts, in addition to the tools of `prisoner`."""

import errno
import os

from prisoner.tools import ATTEMPTS, LOOKED_AT, attempt, call, in_a_child, open_for_writing, read, temporary

__all__ = [
    "ATTEMPTS",
    "LOOKED_AT",
    "MACHINE",
    "attempt",
    "call",
    "in_a_child",
    "looked_at",
    "nothing",
    "number",
    "open_for_writing",
    "read",
    "register",
    "temporary",
]

MACHINE = os.uname().machine == "aarch64"
# On x86-64 and aarch64; a single number holds for both. -1: there is no such call.
_NUMBERS = {
    "acct": (163, 89),
    "adjtimex": (159, 171),
    "cachestat": 451,
    "capget": (125, 90),
    "capset": (126, 91),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "fchmodat2": 452,
    "file_setattr": 469,
    "finit_module": (313, 273),
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "futex_wake": 454,
    "get_robust_list": (274, 100),
    "init_module": (175, 105),
    "io_destroy": (207, 1),
    "io_submit": (209, 2),
    "ioctl": (16, 29),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "lsm_set_self_attr": 460,
    "modify_ldt": (154, -1),
    "mount": (165, 40),
    "move_pages": (279, 239),
    "mq_unlink": (241, 181),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_tree_attr": 467,
    "openat2": 437,
    "perf_event_open": (298, 241),
    "pidfd_getfd": 438,
    "pidfd_open": 434,
    "prctl": (157, 167),
    "process_madvise": 440,
    "process_mrelease": 448,
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": 443,
    "removexattrat": 466,
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setattr": (314, 274),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "setxattrat": 463,
    "shmctl": (31, 195),
    "statmount": 457,
    "swapoff": (168, 225),
    "sysfs": (139, -1),
    "tkill": (200, 130),
    "unshare": (272, 97),
    "uselib": (134, -1),
    "ustat": (136, -1),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}


def number(name):
    numbers = _NUMBERS[name]
    found = numbers if isinstance(numbers, int) else numbers[MACHINE]
    if found < 0:
        raise OSError(errno.ENOSYS, "no such call on this machine")
    return found


def looked_at(name, *arguments, also=()):
    """A system call with invalid arguments: it succeeds if the kernel checked them."""
    try:
        call(name if isinstance(name, int) else number(name), *arguments)
    except OSError as error:
        if error.errno not in LOOKED_AT | set(also):
            raise


def nothing(reason):
    """The attempt was not refused, but found nothing of the host."""
    return OSError(errno.ENOENT, reason)


def register(name, function, *arguments):
    """One attempt of a list: `function` with the target and these arguments."""
    ATTEMPTS[name] = lambda target: function(target, *arguments)
