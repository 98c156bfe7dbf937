"""The root of a confined extension: its own sockets, links that it has made, /proc, /sys and programs."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from internals import CALLS, FILES, NAMESPACES, leave_out

from pyisolate import Extension, SandboxError

Load = Callable[..., Extension]


@pytest.fixture
def started(load: Load) -> Load:
    """`load`, started; the test is skipped if the root cannot be changed."""

    def start(folder: str = "prisoner", **config: Any) -> Extension:
        extension = load(folder, **config)
        extension.ensure_process_started()
        if "a root of its own" not in extension.sandbox_status().layers["namespaces"].detail:
            pytest.skip("without namespaces there is no root of its own")
        return extension

    return start


def without(*layers: int) -> Any:
    """Start extensions without these layers inside the `with` block."""
    patch = pytest.MonkeyPatch()
    leave_out(patch, *layers)
    return patch


# ---- sockets ----


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_its_own_sockets_can_be_connected(started: Load, network: bool) -> None:
    assert started(sandbox={"network": network}).sync.talk_to_itself() == b"hello"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works(started: Load, method: str) -> None:
    assert started().sync.use_multiprocessing(method) == [[1, 2, 3], {"a": 1}, "sent"]


def test_workers_of_torch_load_data(started: Load) -> None:
    pytest.importorskip("torch")
    assert started(share_torch=True).sync.load_data(2) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_others_sockets_are_not_there(started: Load, load: Load, tmp_path: Path) -> None:
    """Without the layers that stop it, the sockets can be connected."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "daemon"))
        listener.listen(1)
        target = {"socket": str(tmp_path / "daemon")}
        assert started().sync.attempt("connect_to_a_daemon", target) == "ENOENT"
        patch = without(NAMESPACES, CALLS)
        try:
            assert load("prisoner", name="open").sync.attempt("connect_to_a_daemon", target) == "done"
        finally:
            patch.undo()


# ---- links ----


def change(folder: Path, name: str, target: Path) -> None:
    """As an extension that can write to the folder might."""
    (folder / name).rename(folder / "aside")
    (folder / name).symlink_to(target)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_link_in_what_it_writes_permits_nothing(
    load: Load, tmp_path: Path, secrets: Path, namespaces: bool, caplog: pytest.LogCaptureFixture
) -> None:
    models = tmp_path / "out" / "models"
    models.mkdir(parents=True)
    (models / "secret").write_text("model")
    patch = without(*([] if namespaces else [NAMESPACES]))
    try:
        sandbox = {"writable_paths": [str(tmp_path / "out")], "readonly_paths": [str(models)]}
        extension = load("prisoner", sandbox=sandbox)
        assert extension.sync.lock(str(models / "secret"))
        extension.sync.replace_by_link(str(models), str(secrets))
        extension.stop()
        with pytest.raises((PermissionError, FileNotFoundError)):
            extension.sync.lock(str(models / "secret"))
        assert f"{models} under 'readonly_paths' leads through the link {models}" in caplog.text
    finally:
        patch.undo()
    patch = without(FILES, NAMESPACES)
    try:
        assert load("prisoner", name="open", sandbox=sandbox).sync.lock(str(models / "secret"))
    finally:
        patch.undo()


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_link_in_what_another_writes_permits_nothing(
    load: Load, tmp_path: Path, secrets: Path, namespaces: bool
) -> None:
    below = tmp_path / "shared" / "below"
    below.mkdir(parents=True)
    patch = without(*([] if namespaces else [NAMESPACES]))
    try:
        first = load("prisoner", name="first", sandbox={"writable_paths": [str(below.parent)]})
        first.sync.replace_by_link(str(below), str(secrets))
        second = load("prisoner", name="second", sandbox={"writable_paths": [str(below)]})
        with pytest.raises((PermissionError, FileNotFoundError, OSError)):
            second.sync.write(str(below / "new"))
        assert os.listdir(secrets) == ["secret"]
    finally:
        patch.undo()


def test_links_elsewhere_are_followed(load: Load, tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "below" / "file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "link" / "below")
    paths = [str(tmp_path / "link" / "below"), str(tmp_path / "absolute" / "file")]
    extension = load("prisoner", sandbox={"readonly_paths": paths})
    assert extension.sync.lock(str(tmp_path / "link" / "below" / "file"))
    assert extension.sync.lock(str(tmp_path / "absolute" / "file"))
    assert extension.sync.lock(str(tmp_path / "real" / "below" / "file"))


def test_what_is_excluded_is_hidden_in_what_it_writes(started: Load, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "hidden").mkdir(parents=True)
    (out / "hidden" / "file").write_text("x")
    started()  # or the test is skipped; the configuration itself would be refused
    config = {"writable_paths": [str(out)], "host_paths": [f"!{out}/hidden"]}
    extension = started(name="writer", sandbox=config)
    extension.sync.write(str(out / "new"))
    with pytest.raises(OSError, match=r"No such file|Permission denied|Read-only"):
        extension.sync.write(str(out / "hidden" / "file"))
    assert (out / "hidden" / "file").read_text() == "x"


@pytest.mark.parametrize("local_sockets", [False, True])
@pytest.mark.parametrize("place", ["out/hidden", "link/hidden", "out/hidden/file", "system"])
def test_what_cannot_be_excluded_is_an_error(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, local_sockets: bool
) -> None:
    """In the host's root a writable folder is permitted as a whole, and so are the system's folders."""
    if not local_sockets:
        leave_out(monkeypatch, NAMESPACES)
    (tmp_path / "out" / "hidden").mkdir(parents=True)
    (tmp_path / "out" / "hidden" / "file").write_text("x")
    (tmp_path / "link").symlink_to("out")
    excluded = "/usr/share" if place == "system" else str(tmp_path / place)
    config = {
        "local_sockets": local_sockets,
        "writable_paths": [str(tmp_path / "out")],
        "host_paths": [f"!{excluded}"],
    }
    where = "of the system's programs" if place == "system" else "that can be written to"
    with pytest.raises(SandboxError, match=rf"a path in a folder {where} .*'local_sockets': {excluded[:20]}"):
        load("prisoner", sandbox=config).ensure_process_started()


def test_what_lies_elsewhere_can_be_excluded(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, NAMESPACES)
    for name in ("out", "output", "given/hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    excluded = [f"!{tmp_path}/output", f"!{tmp_path}/given/hidden", f"!{tmp_path}/out/missing"]
    config = {
        "writable_paths": [str(tmp_path / "out")],
        "readonly_paths": [str(tmp_path / "given")],
        "host_paths": excluded,
    }
    extension = load("prisoner", sandbox=config)
    extension.sync.write(str(tmp_path / "out" / "new"))
    for name in ("output", "given/hidden"):
        with pytest.raises(PermissionError):
            extension.sync.lock(str(tmp_path / name / "file"))


# ---- /proc and /sys ----


def test_children_read_their_own_entries(started: Load) -> None:
    extension = started()
    if os.geteuid() != 0 or extension.sync.run("cat", "/proc/self/comm") == "":
        pytest.skip("only root may have a /proc of its own")
    assert extension.sync.run("cat", "/proc/self/comm") == "cat\n"
    entries = [name for name in extension.sync.run("ls", "/proc").split() if name.isdigit()]
    assert 2 <= len(entries) <= 4  # its zygote is none of them
    assert str(os.getpid()) not in entries


def test_proc_and_sys_show_little(started: Load) -> None:
    extension = started()
    for path in ("/proc/kallsyms", "/proc/locks", "/proc/sys/kernel/hostname", "/sys/fs/cgroup/cgroup.procs"):
        with pytest.raises((PermissionError, FileNotFoundError)):
            extension.sync.lock(path)
    assert extension.sync.lock("/proc/sys/kernel/osrelease")
    assert extension.sync.lock("/proc/self/mountinfo")


def test_no_core_is_dumped_anywhere(load: Load) -> None:
    """With a limit of 1 the kernel does not start a program for core dumps; with 0 it would."""
    assert load("prisoner").sync.limit(resource.RLIMIT_CORE) == (1, 1)


# ---- programs ----


def test_the_linker_tells_where_libraries_are(load: Load) -> None:
    program = next((path for path in ("/sbin/ldconfig", "/usr/sbin/ldconfig") if os.path.exists(path)), None)
    if program is None or subprocess.run([program, "-p"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no ldconfig that works")
    assert "libc.so" in load("prisoner").sync.run(program, "-p")


def test_git_runs(load: Load) -> None:
    if not Path("/etc/gitconfig").exists():
        pytest.skip("there is no /etc/gitconfig here")
    assert load("prisoner").sync.lock("/etc/gitconfig")


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_its_interpreter_finds_what_it_finds(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("x = 5")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    extension = load("prisoner")
    assert extension.sync.run(sys.executable, "-c", "import only_here; print(only_here.x)") == "5\n"
    assert extension.sync.run(sys.executable, "-I", "-c", "import sys; print(sys.flags.isolated)") == "1\n"
