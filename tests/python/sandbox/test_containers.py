"""Hosts in containers and on restricted kernels start extensions, or report what is missing."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path

import filters
import paths
import pytest
import wrappers
from processes import run_python

BREEDER = paths.EXTENSIONS / "breeder"
HOST = """
import os, sys
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True

if __name__ == "__main__":
    module, method, mode = sys.argv[1:]
    config = {"venv_root_path": "venvs", "start_method": method}
    with ExtensionManager(ExtensionBase, config) as manager:
        extension = manager.load_extension(
            {"name": "breeder", "module_path": module, "sandbox_mode": SandboxMode(mode)})
        pids = [extension.sync.processes()[0], extension.sync.plain(), extension.sync.twice()]
        status = extension.sandbox_status()
        assert not any(map(has_ended, pids))
        extension.stop()
        for pid in pids:
            for _ in range(1000):
                if has_ended(pid):
                    break
                os.sched_yield()
        print("confined" if status.confined else "open", *filter(lambda pid: not has_ended(pid), pids))
"""
METHODS = ["fork", "exec"]


def run(
    folder: Path, wrapper: list[str] | None, method: str, mode: str = "required"
) -> subprocess.CompletedProcess[str]:
    if wrapper is None:
        pytest.skip("this user, or this system, cannot make such a place")
    (folder / "host.py").write_text(HOST)
    arguments = ["host.py", str(BREEDER), method, mode]
    return run_python(arguments, folder, wrapper=wrapper, environ={"TMPDIR": str(folder)})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("user", [False, True], ids=["Docker", "podman"])
def test_in_a_container(tmp_path: Path, method: str, user: bool) -> None:
    wrapper = wrappers.in_a_container(filters.PODMAN if user else filters.DOCKER, user=user)
    done = run(tmp_path, wrapper, method)
    assert done.stdout == "confined\n", done.stderr


# place: its own conditions, and the text of the error
LACKING: dict[str, tuple[Callable[[], list[str] | None], str, str]] = {
    "Docker of 2021": (
        lambda: wrappers.in_a_container(filters.DOCKER_OF_2021),
        "files: Landlock is forbidden (Operation not permitted)",
        "Docker 23 or later, or a profile with landlock_*",
    ),
    "gVisor": (
        lambda: wrappers.filtered(filters.GVISOR),
        "files: this kernel has no Landlock (Function not implemented)",
        "Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK",
    ),
    "parts of Landlock": (
        lambda: wrappers.filtered({"landlock_add_rule": errno.EPERM}),
        "files: could not be applied (Operation not permitted)",
        "Landlock needs Linux 5.13 or later, and a container that permits landlock_*",
    ),
    "no filters": (
        lambda: wrappers.filtered({"seccomp": errno.ENOSYS}),
        "system calls: this kernel has no seccomp (Function not implemented)",
        "Linux 3.17 or later, built with CONFIG_SECCOMP_FILTER",
    ),
    "filters that are forbidden": (
        lambda: wrappers.filtered({"seccomp": errno.EPERM}),
        "system calls: seccomp is forbidden (Operation not permitted)",
        "as by a container's seccomp profile: it needs one that permits it",
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", LACKING)
def test_what_cannot_confine_says_so(tmp_path: Path, place: str, method: str) -> None:
    wrapper, reason, remedy = LACKING[place]
    done = run(tmp_path, wrapper(), method)
    assert done.returncode == 1
    last = done.stderr.rpartition("SandboxError: ")[2]
    assert last.startswith("extension 'breeder' could not be confined, so it was not started: " + reason)
    assert remedy in last
    assert "namespaces" not in last, "which are no reason"
    assert "SandboxMode.DISABLED" in last


# refusals that only the child encounters
LAST_STEPS = {
    "landlock_restrict_self": "files: could not be applied (Operation not permitted): Landlock needs Linux",
    "capset": "privileges: could not be applied (Operation not permitted): it needs a container that permits",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", LAST_STEPS)
def test_a_step_that_fails_in_the_child_is_named(tmp_path: Path, name: str, method: str) -> None:
    done = run(tmp_path, wrappers.filtered({name: errno.EPERM}), method)
    assert done.returncode == 1
    assert f"could not be confined, so it was not started: {LAST_STEPS[name]}" in done.stderr


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", LACKING)
def test_what_cannot_confine_runs_without(tmp_path: Path, place: str, method: str) -> None:
    done = run(tmp_path, LACKING[place][0](), method, "disabled")
    assert done.stdout == "open\n", done.stderr


# calls that a start can do without, and those that it needs
SPARE = """
    close_range openat2 open_tree move_mount fsopen fsconfig fsmount mount mount_setattr pivot_root umount2
    unshare pidfd_send_signal faccessat2 statx epoll_pwait2 membarrier
"""
NEEDED = {
    "memfd_create": "sealed memory (memfd_create, F_ADD_SEALS: since Linux 3.17)",
    "pidfd_open": "descriptors of processes (pidfd_open, pidfd_send_signal: since Linux 5.3)",
}


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
def test_without_any_that_can_be_spared(tmp_path: Path, error: int) -> None:
    done = run(tmp_path, wrappers.filtered(dict.fromkeys(SPARE.split(), error)), "fork")
    assert done.stdout == "confined\n", done.stderr


def test_where_nobody_can_be_asked(tmp_path: Path) -> None:
    """Without a listener: older kernels do not know its flag."""
    refused = {"seccomp": filters.GVISOR["seccomp"]}
    assert run(tmp_path, wrappers.filtered(refused), "fork").stdout == "confined\n"


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
@pytest.mark.parametrize("name", NEEDED)
def test_what_is_needed_is_named(tmp_path: Path, name: str, error: int) -> None:
    done = run(tmp_path, wrappers.filtered({name: error}), "exec")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-2:]
    assert any("extension 'breeder' could not be started. This kernel, or the" in line for line in last)
    assert any(NEEDED[name] in line and "Linux 5.4 or later" in line for line in last)
