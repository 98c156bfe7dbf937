"""Internals of the package that tests read or change, where there is no public way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyisolate import Extension
from pyisolate._core import Session
from pyisolate._sandbox import policy

FILES, CALLS, NAMESPACES = 1, 4, 5
"""Ids of the sandbox's layers."""


def runtime_of(extension: Extension) -> Any:
    """Return the object behind the proxy."""
    return extension._runtime


def session_of(extension: Extension) -> Session:
    """Return the session with the running process."""
    session = runtime_of(extension)._session
    assert session is not None
    return session


def pid_of(extension: Extension) -> int:
    """Return the pid, also before the extension has been loaded."""
    return int(runtime_of(extension)._process.session.pid)


def is_given_up(extension: Extension) -> bool:
    """Return whether the process has ended and is not restarted."""
    return runtime_of(extension)._given_up is not None


@contextmanager
def without_layers(*layers: int) -> Iterator[None]:
    """Start extensions without these layers of the sandbox inside the `with` block."""
    policy.omitted_layers = sum(1 << layer for layer in layers)
    try:
        yield
    finally:
        policy.omitted_layers = 0


def leave_out(monkeypatch: pytest.MonkeyPatch, *layers: int) -> None:
    """Like `without_layers`, until the end of the test."""
    monkeypatch.setattr(policy, "omitted_layers", sum(1 << layer for layer in layers))


def use_uv(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    """Have this program run in place of uv."""
    monkeypatch.setattr("pyisolate._env.builder.find_uv", lambda name: str(program))


def forget_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not send the classes registered before to extensions that are started from now on."""
    monkeypatch.setattr("pyisolate._rpc.registry._classes", {})
