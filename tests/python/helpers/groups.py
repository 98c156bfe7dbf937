"""Control groups with a limit of memory, for programs that exhaust it; and those of extensions."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory.limit_in_bytes")


def _parents() -> Iterator[Path]:
    """Groups in which a new one may be possible: that of this process, then the root."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") or not controllers:
            mount = ROOT / "memory" if controllers else ROOT
            yield mount / path.lstrip("/")
            yield mount


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """Make a group, of either version, with a limit of `limit` bytes; None if that is not possible."""
    for parent in _parents():
        group = parent / f"pyisolate-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (next(group / name for name in LIMITS if (group / name).exists())).write_text(str(limit))
            with suppress(OSError):  # no swap, where there is any
                (group / "memory.swap.max").write_text("0")
        except (OSError, StopIteration):
            group.rmdir()
            continue
        try:
            yield group
        finally:
            _remove(group)
        return
    yield None


def _remove(group: Path) -> None:
    for _ in range(500):  # its processes are still ending
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)


def killed(group: Path) -> int:
    """Return how many processes of the group were killed for lack of memory."""
    for name in ("memory.events", "memory.oom_control"):
        with suppress(OSError):
            for line in (group / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def join(group: str) -> None:
    """Put this process into the group."""
    Path(group, "cgroup.procs").write_text(str(os.getpid()))


# ---- groups of extensions ----

READ_ONLY = """
mounts=$(awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts)
[ "$mounts" ] || exit 77
for mount in $mounts; do
    mount -o remount,bind,ro "$mount" || exit 77
done
exec "$@"
"""


def group_of(pid: int) -> Path:
    """Return the folder of the control group that was made for a process."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        path = line.split(":", 2)[2]
        if "/pyisolate-" in path:
            name = path.rpartition("/")[2]
            return next(Path(found) for found, _, _ in os.walk("/sys/fs/cgroup") if found.endswith(name))
    raise AssertionError(f"process {pid} is in no group of its own")
