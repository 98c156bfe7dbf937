"""Errors that the sandbox causes name the configuration key that permits more."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyisolate import Extension, RemoteError, SandboxMode
from pyisolate._child.sandbox_hints import note_hook
from pyisolate._core import Session
from pyisolate._rpc.registry import Registry

pytestmark = pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")

SOURCE = """
import errno, os, socket
from pyisolate import ExtensionBase

class Refused(ExtensionBase):
    def read(self, path):
        return open(path).read()
    def write(self, path):
        open(path, "w").close()
    def wrapped(self, path):
        try:
            self.read(path)
        except OSError as error:
            raise ValueError("no model") from error
    def cpp(self, path):
        try:
            self.write(path)
        except OSError as error:
            text = error.strerror
        raise RuntimeError(f"[enforce fail at inline_container.cc] open file failed: {text}")
    def connect(self):
        socket.create_connection(("127.0.0.1", 9))
    def resolve(self):
        socket.getaddrinfo("name.invalid", 80)
    def descriptors(self):
        return [open(os.devnull) for _ in range(1000)]
    def fail(self):
        raise ValueError("by itself")
    def denied(self):
        raise PermissionError(errno.EACCES, "denied", "file")
"""

Load = Callable[..., Extension]


@pytest.fixture
def refused(load: Load, tmp_path: Path) -> Callable[..., Extension]:
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    (tmp_path / "file").write_text("not for it")
    return lambda **config: load(module_path=str(folder), **config)


def notes_of(call: Callable[..., Any], *args: object) -> list[str]:
    with pytest.raises((OSError, RemoteError, RuntimeError, ValueError)) as caught:
        call(*args)
    return getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("method", "needs_path", "key"),
    [
        ("read", True, "'readonly_paths'"),
        ("wrapped", True, "'readonly_paths'"),
        ("write", True, "'writable_paths'"),
        ("cpp", True, "'writable_paths'"),
        ("connect", False, "'network': True"),
        ("resolve", False, "'network': True"),
        ("descriptors", False, "'open_files': 50 under 'limits'"),
    ],
)
def test_the_key_is_named(refused: Load, tmp_path: Path, method: str, needs_path: bool, key: str) -> None:
    extension = refused(sandbox={"limits": {"open_files": 50}})
    (note,) = notes_of(getattr(extension.sync, method), *([str(tmp_path / "file")] if needs_path else []))
    assert key in note


def test_other_errors_and_open_extensions_have_no_notes(refused: Load) -> None:
    assert notes_of(refused(name="confined").sync.fail) == []
    assert notes_of(refused(name="missing").sync.read, "/usr/lib/no/such/file") == []
    is_open = refused(name="open", sandbox_mode=SandboxMode.DISABLED)
    assert notes_of(is_open.sync.denied) == []


@pytest.mark.parametrize(
    ("error", "sandbox", "words"),
    [
        (PermissionError(errno.EPERM, "no"), {}, ["'network'", "'local_sockets'"]),
        (PermissionError(errno.EPERM, "no"), {"network": True}, ["'local_sockets'"]),
        (PermissionError(errno.EPERM, "no"), {"network": True, "local_sockets": True}, None),
        (PermissionError(errno.EPERM, "no", "/file"), {}, ["'writable_paths'"]),
        (socket.gaierror(socket.EAI_AGAIN, "no"), {"network": True}, None),
        (OSError(errno.ENOSPC, "full"), {}, None),
        (OSError(errno.ENOSPC, "full"), {"limits": {"temp_size": 5}}, ["'temp_size': 5"]),
        (RuntimeError("can't start new thread"), {"limits": {"processes": 9}}, ["'processes': 9"]),
        (MemoryError(), {"limits": {"memory": 7}}, ["'memory': 7"]),
        (MemoryError("says it already"), {"limits": {"memory": 7}}, None),
        (PermissionError("of the program's own"), {}, None),
    ],
)
def test_notes(error: BaseException, sandbox: Any, words: list[str] | None) -> None:
    add_note = note_hook(sandbox, True)
    for _ in range(2):  # an error that is raised again has one note
        add_note(error)
    notes = getattr(error, "__notes__", [])
    assert len(notes) == (words is not None)
    assert [word for word in words or [] if word not in notes[0]] == []


def test_who_may_not_leave_the_group_is_told() -> None:
    for may_leave in (True, False):
        error = PermissionError(errno.EPERM, "no")
        note_hook({}, may_leave)(error)
        assert ("leave its process group" in error.__notes__[0]) is not may_leave


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    note_hook({}, True)(first)
    assert not hasattr(first, "__notes__")


class Denying:
    def deny(self) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/host/file")


class Passing:
    def __init__(self, session: Session) -> None:
        self.deny = session.method(0, "deny")


def test_what_the_host_refuses_is_not_the_sandbox() -> None:
    """The extension lets an exception of a call to its host pass."""
    host, child = Session.pair(Registry())
    host.register(0, Denying())
    child.register(0, Passing(child))
    child.on_error(note_hook({}, True))

    async def main() -> None:
        served = child.serve()
        with pytest.raises(PermissionError) as caught:
            await host.method(0, "deny")()
        assert not hasattr(caught.value, "__notes__")
        host.close()
        await served

    asyncio.run(main())


def test_a_hook_that_fails_changes_nothing() -> None:
    host, child = Session.pair(Registry())
    child.register(0, Denying())
    child.on_error(lambda error: 1 / 0)  # type: ignore[arg-type,return-value]

    async def main() -> None:
        served = child.serve()
        with pytest.raises(PermissionError, match="/host/file"):
            await host.method(0, "deny")()
        host.close()
        await served

    asyncio.run(main())
