"""The thread that waits for output and timers, when a resource is missing at first."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import Extension
from pyisolate._host import poller
from pyisolate._host.poller import Poller


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
    """Let the next call of a function fail."""
    real = getattr(owner, name)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(owner, name, real)
        raise error

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (os, "eventfd", OSError(errno.EMFILE, "no descriptor")),
        (select, "epoll", OSError(errno.EMFILE, "no descriptor")),
        (threading.Thread, "start", RuntimeError("no thread")),
    ],
    ids=["eventfd", "epoll", "thread"],
)
def test_what_is_short_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
) -> None:
    poller, called, never = Poller(), threading.Event(), threading.Event()
    once(monkeypatch, owner, name, error)
    with pytest.raises(type(error)):
        poller.after(0, never.set)
    poller.after(0, called.set)
    assert called.wait(20)
    assert not never.is_set()
    poller.close(1)


def test_a_process_whose_output_cannot_be_read_is_ended(
    load: Callable[..., Extension], monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = load("echo")
    followed: list[Any] = []

    def follow(_: Poller, callback: Any) -> int:
        followed.append(callback.__self__._session)
        raise OSError(errno.ENOSPC, "no watch is left")

    monkeypatch.setattr(poller.Poller, "follow", follow)
    with pytest.raises(OSError, match="no watch"):
        extension.sync.echo(1)
    assert followed[0].wait(20) is not None
