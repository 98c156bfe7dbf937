"""Filters of system calls as in containers and other kernels, as programs for seccomp.

Calls that are not named here are permitted. Numbers come from libseccomp, like those of the sandbox's own
filter.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping, Sequence

import paths

FILTERS = paths.ROOT / "tools" / "filters"
sys.path.insert(0, str(FILTERS))
import filter_program as program  # noqa: E402
import filter_rules as rules  # noqa: E402
import generate_filters as generate  # noqa: E402

sys.path.remove(str(FILTERS))

__all__ = ["DOCKER", "DOCKER_OF_2021", "GVISOR", "PODMAN", "Refused", "make", "number_of"]

Refused = Mapping[str, int | Sequence[rules.When]]
"""The error of each system call by name, or rules on its arguments."""

LAST = 470
"""Later calls are unknown to all of these kernels."""


def names(text: str, error: int) -> dict[str, int]:
    return dict.fromkeys(text.split(), error)


def refuse(error: int) -> rules.When:
    return rules.otherwise(error, reported=False)


# In a container without CAP_SYS_ADMIN and most other capabilities.
_WITHOUT_CAPABILITIES = """
    acct bpf clock_settime delete_module fanotify_init finit_module init_module ioperm iopl kcmp
    lookup_dcookie open_by_handle_at perf_event_open process_madvise quotactl quotactl_fd reboot setdomainname
    sethostname setns settimeofday syslog vhangup
"""
_FOR_NOBODY = """
    add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl migrate_pages
    move_pages pivot_root request_key swapoff swapon sysfs userfaultfd uselib ustat
"""
_MEMORY_POLICIES = "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"
_MOUNTS = """
    fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree umount2
"""
_LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
_SOCKETS = [
    rules.when(rules.arg(0, 38, 40), then=rules.Action(errno.EPERM, reported=False)),  # AF_ALG, AF_VSOCK
    rules.when(),
]
_PERSONALITIES = [rules.when(rules.arg(0, 0, 8, 0x20000, 0x20008, 0xFFFFFFFF)), refuse(errno.EPERM)]

DOCKER: Refused = {
    **names(_WITHOUT_CAPABILITIES + _FOR_NOBODY + _MEMORY_POLICIES + _MOUNTS, errno.EPERM),
    **names("pidfd_getfd unshare", errno.EPERM),
    "clone": [rules.when(rules.arg(0, 0, mask=rules.NAMESPACES)), refuse(errno.EPERM)],
    "clone3": errno.ENOSYS,
    "personality": _PERSONALITIES,
    "socket": _SOCKETS,
}
"""Of ``docker run`` without options."""

DOCKER_OF_2021: Refused = {
    **DOCKER,
    **names(_LANDLOCK, errno.EPERM),
    **names("cachestat fchmodat2 futex_waitv map_shadow_stack process_mrelease memfd_secret", errno.EPERM),
}
"""Of a version that does not know Landlock, and forbids unknown calls."""

PODMAN: Refused = {
    **names(_WITHOUT_CAPABILITIES + _FOR_NOBODY, errno.EPERM),
    **names("futex_waitv io_pgetevents vmsplice cachestat set_mempolicy_home_node", errno.EPERM),
}
"""Of podman, which permits namespaces and mounts in its containers."""
for _name in ("fanotify_init", "keyctl", "pivot_root", "reboot", "syslog"):
    del PODMAN[_name]  # type: ignore[attr-defined]

GVISOR: Refused = {
    **names(_LANDLOCK, errno.ENOSYS),
    **names("mount_setattr openat2 pkey_alloc pkey_free pkey_mprotect", errno.ENOSYS),
    **names("copy_file_range userfaultfd fanotify_init fanotify_mark futex_waitv cachestat", errno.ENOSYS),
    **names("quotactl_fd process_madvise process_mrelease memfd_secret epoll_pwait2", errno.ENOSYS),
    **names("mq_notify mq_getsetattr io_pgetevents vmsplice remap_file_pages", errno.ENOSYS),
    # it has a filter, but no listener for calls
    "seccomp": [rules.when(rules.arg(1, 0, mask=rules.NEW_LISTENER)), refuse(errno.EINVAL)],
}
"""Of an emulated kernel, such as gVisor's."""


def number_of(name: str) -> int:
    """Return the number of a call on this machine; -1: there is none. Raises OSError without libseccomp."""
    number = generate.Numbers().of(name, os.uname().machine)
    return -1 if number is None else number


def make(refused: Refused) -> bytes:
    """Return the program, in the kernel's format."""
    machine = os.uname().machine
    checked = {
        number: [refuse(action)] if isinstance(action, int) else list(action)
        for name, action in refused.items()
        if (number := number_of(name)) >= 0
    }
    found = program.compile_filter(
        generate.ARCHITECTURES[machine],
        set(range(LAST)) - checked.keys(),
        checked,
        rules.Action(errno.ENOSYS, reported=False),
        (),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in found)
