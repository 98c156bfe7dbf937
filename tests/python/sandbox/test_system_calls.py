"""The filters of system calls for each machine, run in an interpreter for filters.

The tables are those of src/seccomp/tables.c. How this machine's kernel runs a filter is tested in
test_sandbox.py.
"""

from __future__ import annotations

import errno
import random
import re
import sys
from collections.abc import Sequence

import paths
import pytest

FILTERS = paths.ROOT / "tools" / "filters"
sys.path.insert(0, str(FILTERS))
import filter_program as program  # noqa: E402
import filter_rules as rules  # noqa: E402
import generate_filters as generate  # noqa: E402

sys.path.remove(str(FILTERS))

MACHINES = list(generate.ARCHITECTURES)
OWN_PID = rules.OWN_PID
HIGH = 1 << 32
FULL = ("network", "local_sockets", "own_sockets", "private_ipc", "private_disk", "private_root", "devices")
"""Everything that permits calls."""


@pytest.fixture(scope="module")
def numbers() -> generate.Numbers:
    try:
        return generate.Numbers()
    except OSError:
        pytest.skip("there is no libseccomp, which knows the numbers of system calls")


def table(machine: str) -> list[program.Instruction]:
    text = generate.TABLES.read_text()
    body = text[text.index(f"piso__filter_{machine}[]") :]
    rows = re.findall(r"\{(0x\w+), (\d+), (\d+), (0x\w+)\}", body[: body.index("};")])
    assert len(rows) == int(re.search(rf"{machine}_count = (\d+);", text)[1])
    return [(int(code, 16), int(yes), int(no), int(k, 16)) for code, yes, no, k in rows]


def bits(options: Sequence[str]) -> int:
    return sum(1 << rules.OPTIONS.index(name) for name in options)


def meaning(result: int) -> str:
    """ "" for a permitted call, "0" for one that seems to succeed, otherwise the name of the error."""
    if result == program.PERMIT:
        return ""
    assert result & 0xFFFF0000 in (program.REPORTED, program.SILENT)
    return errno.errorcode.get(result & 0xFFFF, "0")


@pytest.mark.parametrize("machine", MACHINES)
def test_tables_are_those_of_the_rules(machine: str, numbers: generate.Numbers) -> None:
    assert table(machine) == generate.make_program(machine, numbers), "run tools/filters/generate_filters.py"
    assert generate.TABLES.read_text() == generate.render()


# call, arguments, options: the result
CALLS: list[tuple[str, tuple[int, ...], tuple[str, ...], str]] = [
    ("read", (0,), (), ""),
    ("openat", (0,), (), ""),
    ("execve", (), (), ""),
    ("futex", (), (), ""),
    ("statx", (), (), ""),
    *((name, (0, 0), (), "") for name in ("truncate", "openat", "openat2")),
    ("openat", (0, 0, 0), ("no_truncation",), ""),
    ("truncate", (0, 0), ("no_truncation",), "EPERM"),
    ("openat", (0, 0, 0o1000), ("no_truncation",), "EPERM"),
    ("openat", (0, 0, 0o1003 | 0o2000000), ("no_truncation",), "EPERM"),
    *(("openat", (0, 0, flags), ("no_truncation",), "") for flags in (0o1001, 0o1102, 0o2000000, 3)),
    ("openat2", (0, 0), ("no_truncation",), "ENOSYS"),
    ("clone3", (), FULL, "ENOSYS"),
    ("clone", (17,), (), ""),
    ("clone", (0x3D0F00,), (), ""),  # a thread
    ("clone", (HIGH | 17,), (), ""),
    *(
        ("clone", (17 | flag,), FULL, "EINVAL")
        for flag in (0x8000, 0x20000, 0x2000000, 0x10000000, 0x40000000)
    ),
    ("unshare", (0x400,), (), ""),
    ("unshare", (0x10000000,), FULL, "EINVAL"),
    ("unshare", (HIGH | 0x400,), (), ""),
    ("unshare", (0x400 | 0x20000000,), FULL, "EINVAL"),
    *(
        (name, (), FULL, "ENOSYS")
        for name in rules.names("""
            ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp migrate_pages
            move_pages get_robust_list setns mount umount2 pivot_root chroot move_mount open_tree
            fsopen fsconfig fsmount fspick mount_setattr io_uring_setup io_uring_enter
            io_uring_register bpf perf_event_open userfaultfd add_key request_key keyctl
            fanotify_init fanotify_mark open_by_handle_at name_to_handle_at memfd_secret vmsplice
            remap_file_pages init_module finit_module delete_module kexec_load reboot swapon swapoff
            settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname acct
            quotactl syslog vhangup io_setup io_submit lookup_dcookie
        """)
    ),
    # other processes
    *(
        (name, (who,), options, says)
        for name in (
            "prlimit64",
            "sched_setaffinity",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
        )
        for who, options, says in ((0, (), ""), (OWN_PID, (), ""), (1, FULL, "ESRCH"), (HIGH, (), ""))
    ),
    ("sched_getaffinity", (1,), (), ""),
    ("setpriority", (0, 0), (), ""),
    ("setpriority", (0, 1), FULL, "ESRCH"),
    ("setpriority", (1, 0), FULL, "ESRCH"),
    ("setpriority", (2, 0), FULL, "ESRCH"),
    ("ioprio_set", (1, 0), (), ""),
    ("ioprio_set", (1, OWN_PID), (), ""),
    ("ioprio_set", (1, 1), FULL, "ESRCH"),
    ("ioprio_set", (2, 0), FULL, "ESRCH"),
    ("ioprio_set", (3, 0), FULL, "ESRCH"),
    ("kill", (1,), (), ""),
    ("kill", (1,), ("own_signals",), "EPERM"),
    ("kill", (-1,), ("own_signals",), "EPERM"),
    ("kill", (0,), ("own_signals",), ""),
    ("kill", (OWN_PID,), ("own_signals",), ""),
    ("tgkill", (0,), ("own_signals",), "EPERM"),
    ("tgkill", (OWN_PID, 5), ("own_signals",), ""),
    ("rt_sigqueueinfo", (1,), ("own_signals",), "EPERM"),
    ("tkill", (OWN_PID,), ("own_signals",), "EPERM"),
    ("tkill", (1,), (), ""),
    ("pidfd_send_signal", (3,), ("own_signals",), "EPERM"),
    ("setpgid", (0, 0), ("own_signals",), ""),
    ("setpgid", (0, 7), ("own_signals",), "EPERM"),
    ("setpgid", (0, 7), (), ""),
    ("setpgid", (0, 0), ("own_group",), "EPERM"),
    ("setsid", (), ("own_group",), "EPERM"),
    ("setsid", (), ("own_signals",), ""),
    ("personality", (0xFFFFFFFF,), (), ""),
    ("personality", (0x40000,), FULL, "EINVAL"),
    ("prctl", (15,), (), ""),
    ("prctl", (0x53564D41,), (), ""),
    ("prctl", (35,), FULL, "EINVAL"),
    ("prctl", (62,), FULL, "EINVAL"),
    ("prctl", (47, 1), (), ""),
    ("prctl", (47, 2), FULL, "EINVAL"),
    ("seccomp", (1, 0), (), ""),
    ("seccomp", (1, 8), FULL, "EINVAL"),
    ("seccomp", (3,), FULL, "EINVAL"),
    # files
    ("fcntl", (3, 1), (), ""),
    ("fcntl", (3, 1030), (), ""),
    ("fcntl", (3, 1024), FULL, "EINVAL"),  # F_SETLEASE
    ("fcntl", (3, 1026), FULL, "EINVAL"),  # F_NOTIFY
    ("fcntl", (3, HIGH | 1026), FULL, "EINVAL"),
    ("fcntl", (3, 8), (), ""),
    ("fcntl", (3, 8), ("own_signals",), "EINVAL"),
    ("fcntl", (3, 15), ("own_signals",), "EINVAL"),
    ("fcntl", (3, 99), FULL, "EINVAL"),
    ("fchmodat", (), ("private_disk",), ""),
    ("fchmodat", (), (), "EPERM"),
    *(("fchmodat", (3, 0, mode), FULL, "") for mode in (0o644, 0o2755, 0o1777)),
    *(("fchmodat", (3, 0, mode), FULL, "EPERM") for mode in (0o4755, 0o6755, HIGH | 0o4000)),
    ("fchmodat2", (3, 0, 0o4755), FULL, "EPERM"),
    ("fchmod", (3, 0o4755), FULL, "EPERM"),
    ("fchmod", (3, 0o755), FULL, ""),
    ("fchmodat2", (), (), "EPERM"),
    ("fchownat", (), (), "EPERM"),
    ("utimensat", (), (), "EPERM"),
    ("setxattr", (), (), "ENOTSUP"),
    ("setxattrat", (), (), "ENOTSUP"),
    ("setxattr", (), ("private_disk",), ""),
    ("getxattr", (), (), ""),
    ("mknodat", (-100, 0, 0o10600), (), ""),
    ("mknodat", (-100, 0, 0o100600), (), ""),
    ("mknodat", (-100, 0, 0o20600), FULL, "EPERM"),
    ("mknodat", (-100, 0, 0o60600), FULL, "EPERM"),
    ("inotify_init1", (), (), "ENOSYS"),
    ("inotify_add_watch", (), ("private_disk",), "ENOSYS"),
    ("inotify_init1", (), ("private_root",), ""),
    ("fallocate", (3, 3), (), ""),
    ("fallocate", (3, 3), ("no_holes",), "ENOTSUP"),
    ("fallocate", (3, 1), ("no_holes",), ""),
    ("madvise", (0, 0, 9), ("no_holes",), "EINVAL"),
    ("madvise", (0, 0, 4), ("no_holes",), ""),
    # requests
    ("ioctl", (0, 0x5401), (), ""),
    ("ioctl", (0, 0x541B), (), ""),
    ("ioctl", (0, HIGH | 0x541B), (), ""),
    *(("ioctl", (0, request), (), "ENOTTY") for request in (0x5402, 0x540A, 0x5414, 0xC0084600, 0x8912)),
    *(
        ("ioctl", (0, request), FULL, "ENOTTY")
        for request in (0x5412, HIGH | 0x5412, 0x541C, 0x541D, 0x540E, 0x5410, 0x8901, 0x8902, 0x540A, 0x5423)
    ),
    *(
        ("ioctl", (0, request), FULL, "ENOTTY")
        for request in (
            *(0x5422, 0x540C, 0x540D, 0x5437),  # TIOCNOTTY, TIOCEXCL, TIOCNXCL, TIOCVHANGUP
            0x40045436,  # TIOCSIG
            *(0x4B3A, 0x4B45, 0x4B47, 0x4B49, 0x4B4E, 0x4B61, 0x4B72),  # of keyboards, fonts, graphics
            *(0x5600, 0x5602, 0x5605, 0x5606, 0x5608, 0x560B, 0x560F),  # VT_SETMODE, VT_ACTIVATE, ...
            *(0x4C00, 0x4C01, 0x4C06, 0x4C0A, 0x4C80, 0x4C82),  # LOOP_SET_FD and its kin, LOOP_CTL_ADD
            *(0xC138FD00, 0xC138FD03, 0xC138FD09),  # DM_VERSION, DM_DEV_CREATE, DM_TABLE_LOAD
            *(0x8914, 0x8918, 0x8924, 0x89A0),  # SIOCSIFFLAGS, SIOCSIFDSTADDR, SIOCSIFHWADDR, SIOCBRADDBR
            *(0xC040FF0B, 0xFF04, 0xFF09),  # PIDFD_GET_INFO, PIDFD_GET_..._NAMESPACE
        )
    ),
    ("ioctl", (0, 0x8912), ("devices",), "ENOTTY"),
    *(
        ("ioctl", (0, request), ("devices",), "")
        for request in (
            *(0xC0084600, 0xC0106401, 0x80084B01, 0xC0184B02),  # of nvidia, DRM, kfd, which has K, too
            *(0x80685600, 0x5646, 0xAE01, 0x400454CA),  # of cameras, which have V; KVM_CREATE_VM, TUNSETIFF
            *(0x5402, 0x5409, 0x5414, 0x5418, 0x5441, 0x40045431),  # TCSETS, TIOCSWINSZ, TIOCGPTPEER, ...
            *(0x2285, 0x1277, 0x80081272),  # SG_IO, BLKDISCARD, BLKGETSIZE64
        )
    ),
    ("ioctl", (0, 0x8912), ("network",), ""),
    ("ioctl", (0, 0x40086602), ("private_disk",), ""),
    ("ioctl", (0, 0x40086602), (), "ENOTTY"),
    ("ioctl", (0, 0x40086602), ("devices",), "ENOTTY"),
    ("ioctl", (0, 0x40806685), ("devices",), "ENOTTY"),  # FS_IOC_ENABLE_VERITY
    # sockets
    ("socket", (1, 1), (), ""),
    ("socket", (1, 0x80801), (), ""),
    ("socket", (1, 5), (), ""),
    *(
        ("socket", (1, kind), options, "ESOCKTNOSUPPORT")
        for kind in (2, 3, 0x80003)
        for options in ((), FULL)
    ),
    ("socket", (1, 1), ("network",), "EPERM"),
    ("socket", (1, 1), ("network", "local_sockets"), ""),
    ("socket", (1, 1), ("network", "own_sockets"), ""),
    ("socket", (2, 1), (), "EPERM"),
    ("socket", (10, 2), ("local_sockets",), "EPERM"),
    ("socket", (HIGH | 2, 1), (), "EPERM"),
    ("socket", (2, 1, 6), ("network",), ""),
    ("socket", (10, 0x80802, 17), ("network",), ""),
    ("socket", (2, 3, 1), FULL, "EPROTONOSUPPORT"),
    ("socket", (2, 1, 132), FULL, "EPROTONOSUPPORT"),
    ("socket", (2, 1, 262), FULL, "EPROTONOSUPPORT"),
    ("socket", (16, 3, 0), ("network",), ""),
    ("socket", (16, 3, 0), (), "EPERM"),
    ("socket", (16, 3, 12), FULL, "EPROTONOSUPPORT"),
    *(("socket", (family, 1), FULL, "EAFNOSUPPORT") for family in (0, 3, 17, 29, 30, 38, 40, 44, 45, 46, 99)),
    ("socketpair", (1, 1), (), ""),
    ("socketpair", (1, 2), FULL, "ESOCKTNOSUPPORT"),
    ("socketpair", (1, 3), FULL, "ESOCKTNOSUPPORT"),
    ("socketpair", (30, 1), FULL, "EAFNOSUPPORT"),
    *(
        (name, (3,), options, says)
        for name in ("connect", "bind", "listen")
        for options, says in (
            ((), "EPERM"),
            (("network",), ""),
            (("local_sockets",), ""),
            (("own_sockets",), ""),
            (("private_root",), "EPERM"),
        )
    ),
    ("setsockopt", (3, 1, 13), FULL, "0"),
    ("setsockopt", (3, 1, 2), (), ""),
    ("setsockopt", (3, 1, 26), FULL, "ENOPROTOOPT"),
    ("setsockopt", (3, 6, 31), FULL, "ENOPROTOOPT"),
    ("setsockopt", (3, 6, 13), (), ""),
    # calls that only a namespace isolates
    *((name, (), (), "ENOSYS") for name in ("shmget", "semop", "msgsnd", "mq_open")),
    *((name, (), ("private_ipc",), "") for name in ("shmget", "semop", "msgsnd", "mq_open")),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_filter_says(machine: str, numbers: generate.Numbers) -> None:
    instructions, architecture = table(machine), generate.ARCHITECTURES[machine]
    found = {}
    for name, arguments, options, expected in CALLS:
        number = numbers.of(name, machine)
        assert number is not None
        result = program.evaluate(instructions, bits(options), architecture, number, arguments)
        if meaning(result) != expected:
            found[(name, arguments, options)] = meaning(result)
    assert found == {}


@pytest.mark.parametrize("machine", MACHINES)
def test_other_numbers_and_machines(machine: str) -> None:
    instructions, architecture = table(machine), generate.ARCHITECTURES[machine]
    for number in (467, 470, 1000, 0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF):
        assert meaning(program.evaluate(instructions, bits(FULL), architecture, number)) == "ENOSYS"
    for other in (0x40000003, 0x40000028, *set(generate.ARCHITECTURES.values()) - {architecture}):
        assert program.evaluate(instructions, bits(FULL), other, 0) == program.KILL


def test_calls_of_one_machine_only(numbers: generate.Numbers) -> None:
    assert numbers.of("open", "aarch64") is None
    with pytest.raises(ValueError, match="no system call 'nothing'"):
        numbers.of("nothing", "x86_64")


def by_the_rules(found: Sequence[rules.When], options: set[str], arguments: Sequence[int]) -> rules.Action:
    def holds(test: rules.Argument | rules.Option) -> bool:
        if isinstance(test, rules.Option):
            return bool(options & set(test.names))
        return (arguments[test.index] & test.mask) in [value & rules.INT for value in test.values]

    return next(rule.action for rule in found if all(map(holds, rule.tests)))


@pytest.mark.parametrize("machine", MACHINES)
def test_programs_do_what_the_rules_say(machine: str, numbers: generate.Numbers) -> None:
    """With arguments from the rules, neighbouring ones, and any options."""
    instructions, architecture = table(machine), generate.ARCHITECTURES[machine]
    chance = random.Random(1)
    for name, found in rules.CHECKED.items():
        number = numbers.of(name, machine)
        if number is None:
            continue
        named = [v for rule in found for t in rule.tests if isinstance(t, rules.Argument) for v in t.values]
        for _ in range(300):
            options = {option for option in rules.OPTIONS if chance.random() < 0.5}
            near = [
                chance.choice([*named, 0, 1]) + chance.choice([0, 0, 0, 1, 1 << 31, HIGH]) for _ in range(6)
            ]
            action = by_the_rules(found, options, [value & rules.INT for value in near])
            result = program.evaluate(instructions, bits(sorted(options)), architecture, number, near)
            expected = "" if action.error is None else errno.errorcode.get(action.error, "0")
            assert meaning(result) == expected, (name, options, near)
            assert action.error is None or (result & 0xFFFF0000 == program.REPORTED) == action.reported


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_takes_the_program(machine: str) -> None:
    """Its rules: jumps go forward and stay inside, every path ends in a return, and the length is limited."""
    instructions = table(machine)
    assert len(instructions) <= 4096
    for at, (code, yes, no, k) in enumerate(instructions):
        assert code in (0x20, 0x00, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06)
        distance = k if code == program.JUMP else max(yes, no)
        assert at + 1 + distance < len(instructions) or code == program.RETURN
    assert instructions[-1][0] == program.RETURN
