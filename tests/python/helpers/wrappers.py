"""Commands that run a host with fewer permissions: arguments before its own."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filters
import paths

__all__ = [
    "as_a_user",
    "filtered",
    "in_a_chroot",
    "in_a_container",
    "public_folder",
    "with_landlock_of",
    "without_calls",
    "without_capabilities",
]

USER = 23456
FILTER = """
import ctypes, os, struct, sys
# The first argument is a program for seccomp, under which the program of the others runs.
program = bytes.fromhex(sys.argv[1])
buffer = ctypes.create_string_buffer(program)
pointer = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(pointer), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""

LANDLOCK = """
import ctypes, fcntl, os, socket, struct, sys
# As an older kernel: landlock_create_ruleset says that its version is the argument. Another process answers.
version = int(sys.argv[1])
rules = [(0x20, 0, 0, 0), (0x15, 0, 3, 444), (0x20, 0, 0, 32), (0x15, 0, 1, 1), (6, 0, 0, 0x7FC00000),
         (6, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("=HBBI", *rule) for rule in rules)
buffer = ctypes.create_string_buffer(program)
pointer = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
a, b = socket.socketpair()
answering = os.fork()
if answering:
    number = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    listener = libc.syscall(number, 1, 8, ctypes.byref(pointer))
    assert listener >= 0, ctypes.get_errno()
    socket.send_fds(a, [b"x"], [listener])
    os.close(listener)
    a.close()
    b.close()
    os.execv(sys.argv[2], sys.argv[2:])
a.close()
listener = socket.recv_fds(b, 1, 1)[1][0]
for descriptor in (0, 1, 2):
    os.close(descriptor)
while True:
    request = bytearray(80)
    try:
        fcntl.ioctl(listener, 0xC0502100, request)
        fcntl.ioctl(listener, 0xC0182101, request[:8] + struct.pack("=qiI", version, 0, 0))
    except OSError:
        os._exit(0)  # the last of those that asked is gone
"""


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder on a disk that others can reach; what `as_a_user` makes beside it is removed too."""
    path = Path(tempfile.mkdtemp(prefix="pyisolate-test-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        for left in (path, *path.parent.glob(f"{path.name}-*")):
            shutil.rmtree(left)


def possible(*command: str) -> bool:
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


def filtered(refused: filters.Refused) -> list[str] | None:
    """Run under a filter that refuses calls; None without libseccomp, which knows their numbers."""
    try:
        return [sys.executable, "-c", FILTER, filters.make(refused).hex()]
    except OSError:
        return None


def without_calls(name: str = "unshare") -> list[str] | None:
    """Let one call fail with EPERM; by default the one that makes namespaces."""
    return filtered({name: errno.EPERM})


def with_landlock_of(version: int) -> list[str]:
    return [sys.executable, "-c", LANDLOCK, str(version)]


def without_capabilities() -> list[str] | None:
    wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return wrapper if os.geteuid() == 0 and shutil.which("setpriv") else None


def as_a_user(folder: Path) -> list[str] | None:
    """Run as another user than root, who then owns `folder`. Files in a private home, such as this
    interpreter, are mounted in their place, without the other files there."""
    if os.geteuid() != 0:
        return ["env"]
    if not shutil.which("setpriv") or not possible("unshare", "--mount"):
        return None
    os.chown(folder, USER, USER)
    hidden = {private for path in needed() if (private := private_above(path))}
    script = ["set -e"]
    for number, private in enumerate(sorted(hidden)):
        kept = Path(f"{folder}-kept-{number}")
        inside = [path for path in needed() if path.is_relative_to(private)]
        script += [
            f"mkdir -p {kept}",
            f"mount --rbind {private} {kept}",
            f"mount -t tmpfs -o mode=755 t {private}",
        ]
        for path in inside:
            script += [f"mkdir -p {path}", f"mount --bind {kept / path.relative_to(private)} {path}"]
        script += [f"umount -l {kept}"]
    script.append(f'exec setpriv --reuid={USER} --regid={USER} --clear-groups "$@"')
    return ["unshare", "--mount", "sh", "-c", "\n".join(script), "sh"]


def needed() -> list[Path]:
    return [Path(sys.base_prefix), Path(sys.prefix), paths.HERE]


def private_above(path: Path) -> Path | None:
    """Return the uppermost folder of the path that other users may not enter."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 1), None)


def in_a_chroot(folder: Path) -> list[str] | None:
    """Run in a new root with the same files, where user namespaces cannot be made."""
    root = Path(f"{folder}-root")
    mount = f"mkdir -p {root} && mount --rbind / {root}"
    enter = f"""exec chroot {root} sh -c 'cd "$0" && exec "$@"' "$PWD" "$@" """
    wrapper = ["unshare", "--mount", "sh", "-c", f"{mount} && {enter}", "sh"]
    return wrapper if os.geteuid() == 0 and possible(*wrapper) else None


CAPABILITIES = """
    chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod
    audit_write setfcap
"""
"""The capabilities of root in a container by default."""

CONTAINER = """
set -e
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc /proc
for path in bus fs irq sys sysrq-trigger; do
    if [ -e /proc/$path ]; then
        mount --bind /proc/$path /proc/$path
        mount -o remount,bind,ro /proc/$path
    fi
done
for path in acpi asound scsi; do
    if [ -d /proc/$path ]; then mount -t tmpfs -o ro tmpfs /proc/$path; fi
done
for path in interrupts kcore keys latency_stats sched_debug timer_list timer_stats; do
    if [ -e /proc/$path ]; then mount --bind /dev/null /proc/$path; fi
done
mount --rbind /sys /sys
mount -o remount,bind,ro /sys
if [ -d /sys/firmware ]; then mount -t tmpfs -o ro tmpfs /sys/firmware; fi
for path in $(awk '$5 ~ "^/sys/fs/cgroup" {print $5}' /proc/self/mountinfo); do
    mount -o remount,bind,ro $path
done
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
"""


def in_a_container(refused: filters.Refused, *, user: bool = False) -> list[str] | None:
    """Run the host as root with few capabilities, as the first process; /proc and /sys are read-only or
    covered. With `user` in a namespace of users, where a user has made the container."""
    filter_of_calls = filtered(refused)
    unshare = ["unshare", *(["--user", "--map-root-user"] if user else []), "--mount", "--pid", "--ipc"]
    unshare += ["--fork", "--kill-child"]
    kept = ",".join(f"+{name}" for name in CAPABILITIES.split())
    leave = f'exec setsid setpriv --bounding-set=-all,{kept} --inh-caps=-all "$@"'
    wrapper = [*unshare, "sh", "-c", CONTAINER + leave, "sh"]
    if os.geteuid() != 0 or filter_of_calls is None or not possible(*wrapper):
        return None
    return [*wrapper, *filter_of_calls]
