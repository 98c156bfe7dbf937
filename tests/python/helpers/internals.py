"""What tests look at and change inside the package where nothing public shows it."""

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
"""Ids of layers of the sandbox."""


def runtime_of(extension: Extension) -> Any:
    """What is behind the proxy."""
    return extension._runtime


def session_of(extension: Extension) -> Session:
    """The session with its process, which runs."""
    session = runtime_of(extension)._session
    assert session is not None
    return session


def pid_of(extension: Extension) -> int:
    """Its process, also before the extension has been loaded."""
    return int(runtime_of(extension)._process.session.pid)


def is_given_up(extension: Extension) -> bool:
    """Whether its process has ended and is not started again."""
    return runtime_of(extension)._given_up is not None


@contextmanager
def without_layers(*layers: int) -> Iterator[None]:
    """Extensions that are started meanwhile lack these layers of the sandbox."""
    policy.omitted_layers = sum(1 << layer for layer in layers)
    try:
        yield
    finally:
        policy.omitted_layers = 0


def leave_out(monkeypatch: pytest.MonkeyPatch, *layers: int) -> None:
    """As `without_layers`, until the end of the test."""
    monkeypatch.setattr(policy, "omitted_layers", sum(1 << layer for layer in layers))


def use_uv(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    """Have this program run in place of uv."""
    monkeypatch.setattr("pyisolate._env.builder.find_uv", lambda name: str(program))


def forget_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions that are started from now on are not told of classes that were registered before."""
    monkeypatch.setattr("pyisolate._rpc.registry._classes", {})
