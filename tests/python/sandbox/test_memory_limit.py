"""The limit of memory counts everything of an extension in a control group; otherwise the report says so."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest
from groups import READ_ONLY, group_of
from internals import pid_of
from limits import start_limited
from processes import has_ended, run_host
from waiting import eventually, shared_memory

from pyisolate import Extension, ExtensionDied, SandboxError

Load = Callable[..., Extension]
HOARDER = paths.EXTENSIONS / "hoarder"
LIMIT = 192 << 20
BY_GROUP = "memory is counted by a control group"
BOTH_METHODS = pytest.mark.parametrize("start_method", ["fork", "exec"])


def grouped(load: Load, *, memory: int = LIMIT, **more: Any) -> Extension:
    """Start an extension whose memory a control group counts."""
    limits = {"memory": memory, **more.pop("limits", {})}
    extension = start_limited(load, "hoarder", sandbox={"limits": limits}, share_numpy=True, **more)
    detail = extension.sandbox_status().layers["limits"].detail
    if not detail.startswith("memory"):
        pytest.skip(f"no control group that counts memory can be made here: {detail}")
    return extension


def told(error: BaseException, limit: int = LIMIT) -> bool:
    return (
        isinstance(error, ExtensionDied)
        and error.signal == "SIGKILL"
        and f"memory control group's limit of {limit >> 20} MB (limits['memory']" in str(error)
        and "raise limits['memory']" in str(error)
    )


@pytest.mark.alone
@pytest.mark.parametrize("way", ["memfds", "shared_mappings", "socket_buffers"])
@BOTH_METHODS
def test_what_it_tells_nobody_of_counts(load: Load, way: str) -> None:
    extension, other = grouped(load), load("echo")
    assert other.sync.echo(1) == 1
    folder, before = group_of(pid_of(extension)), shared_memory()
    extension.sync.hoard(way, LIMIT // 6)
    with pytest.raises((ExtensionDied, OSError)) as caught:
        extension.sync.hoard(way, 2 * LIMIT)
    refused = isinstance(caught.value, OSError) and caught.value.errno in (errno.ENOMEM, errno.ENOBUFS)
    assert refused or told(caught.value), caught.value
    assert other.sync.echo(2) == 2
    extension.stop()
    assert eventually(lambda: not folder.exists())
    assert eventually(lambda: shared_memory() < before + (LIMIT * 3 // 4 >> 10))


def test_private_memory_is_an_error_as_before(load: Load) -> None:
    extension = grouped(load)
    with pytest.raises(MemoryError):
        extension.sync.hoard("private", 2 * LIMIT)
    assert extension.sync.hoard("private", 1 << 20)


def test_what_it_shares_is_its_own_and_an_error_in_time(load: Load) -> None:
    extension = grouped(load)
    with pytest.raises(MemoryError):
        extension.sync.share(16, LIMIT // 4)
    assert extension.sync.share(1, 1 << 20).sum() == 1 << 20


def test_other_limits_of_memory_come_on_top(load: Load) -> None:
    extension = grouped(load, limits={"shared_memory": 2 * LIMIT})
    assert extension.sync.share(1, LIMIT + (16 << 20))[-1] == 1
    with pytest.raises(ExtensionDied) as caught:
        extension.sync.hoard("memfds", 4 * LIMIT)
    assert told(caught.value, 3 * LIMIT)


def test_a_temporary_folder_of_its_own_size_fits(load: Load) -> None:
    try:
        extension = grouped(load, limits={"temp_size": 2 * LIMIT})
    except SandboxError as error:
        pytest.skip(f"temporary space cannot be limited here: {error}")
    assert extension.sync.hoard("temporary_files", LIMIT + (16 << 20))


def test_what_the_host_sends_is_the_hosts(load: Load) -> None:
    np = pytest.importorskip("numpy")
    import pyisolate

    extension = grouped(load, memory=2 * LIMIT)
    mine = pyisolate.empty_array(3 * LIMIT, np.uint8)
    mine[:] = 1
    assert extension.sync.hoard("memfds", LIMIT // 2)
    extension.sync.keep(mine)
    assert extension.sync.total() == 3 * LIMIT


def test_what_it_has_shared_outlives_it(load: Load) -> None:
    extension = grouped(load)
    array = extension.sync.share(1, 16 << 20)
    folder = group_of(pid_of(extension))
    with pytest.raises(ExtensionDied) as caught:
        extension.sync.hoard("memfds", 2 * LIMIT)
    assert told(caught.value)
    assert array.sum() == 16 << 20
    assert eventually(lambda: not folder.exists())


@BOTH_METHODS
def test_it_comes_back_with_a_group_of_its_own(load: Load) -> None:
    extension = grouped(load, restart={"delay": 0.01})
    for generation in (2, 3):
        with pytest.raises(ExtensionDied) as caught:
            extension.sync.hoard("memfds", 2 * LIMIT)
        assert told(caught.value)
        assert eventually(lambda wanted=generation: extension.generation == wanted)  # type: ignore[misc]
        assert extension.sync.hoard("memfds", LIMIT // 4)


def test_what_it_started_ends_with_it(load: Load) -> None:
    extension = grouped(load)
    program, folder = extension.sync.start_program(), group_of(pid_of(extension))
    extension.stop()
    assert eventually(lambda: has_ended(program))
    assert eventually(lambda: not folder.exists())


def test_it_cannot_raise_its_limit(load: Load) -> None:
    extension = grouped(load)
    folder = group_of(pid_of(extension))
    for name in ("memory.max", "memory.limit_in_bytes", "cgroup.procs"):
        if (folder / name).exists():
            with pytest.raises(OSError, match=r"Permission denied|Read-only|No such file"):
                extension.sync.write(str(folder / name), str(8 * LIMIT))


def test_a_kill_is_not_called_a_lack_of_memory(load: Load) -> None:
    extension = grouped(load)
    os.kill(pid_of(extension), 9)
    with pytest.raises(ExtensionDied, match="was killed by SIGKILL"):
        extension.sync.hoard("private", 1)


def test_both_limits_are_told(load: Load) -> None:
    extension = grouped(load, limits={"processes": 32})
    detail = extension.sandbox_status().layers["limits"].detail
    assert detail in ("memory and processes are counted by a control group", BY_GROUP)
    with pytest.raises(ExtensionDied) as caught:
        extension.sync.hoard("memfds", 2 * LIMIT)
    assert told(caught.value)


# ---- where no group can be made ----

HOST = """
import json, sys
from pyisolate import ExtensionBase, ExtensionManager

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs", "start_method": sys.argv[2]})
    extension = manager.load_extension(
        {"name": "hoarder", "module_path": sys.argv[1], "sandbox": {"limits": {"memory": 192 << 20}}}
    )
    try:
        extension.sync.hoard("private", 1 << 30)
        said = ""
    except MemoryError as error:
        said = "MemoryError"
    hidden = extension.sync.hoard("memfds", 208 << 20)
    print(json.dumps([said, hidden, extension.sandbox_status().layers["limits"].detail]))
    manager.stop_all_extensions()
"""


@BOTH_METHODS
def test_where_control_groups_are_read_only_processes_are_limited(tmp_path: Path, start_method: str) -> None:
    """As in most containers."""
    enter = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if os.geteuid() != 0 or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("there are no control groups here, or this user cannot mount them read-only")
    said, hidden, detail = run_host(HOST, tmp_path, [str(HOARDER), start_method], enter)
    assert said == "MemoryError"
    assert hidden == 208 << 20
    assert detail == (
        "of memory only what each process has for itself: no control group (Read-only file system)"
    )
