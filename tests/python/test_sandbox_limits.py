"""Limits of a confined process, and what exceeding one looks like."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyisolate import Extension, ExtensionDied, SandboxError

Load = Callable[..., Extension]


def limited(load: Load, **limits: int) -> Extension:
    return load("prisoner", sandbox={"limits": limits})


def test_limit_of_memory(load: Load) -> None:
    extension = limited(load, memory=512 << 20)
    assert extension.sync.allocate(64 << 20)
    with pytest.raises(MemoryError):
        extension.sync.allocate(1 << 30)
    assert extension.sync.allocate(64 << 20)


def test_limit_of_processor_time(load: Load) -> None:
    with pytest.raises(ExtensionDied, match="limit of processor time"):
        limited(load, cpu_seconds=1).sync.burn()


def test_limit_of_open_files(load: Load) -> None:
    extension = limited(load, open_files=64)
    assert extension.sync.open_many(10) == 10
    with pytest.raises(OSError, match="Too many open files"):
        extension.sync.open_many(100)


def test_limit_of_file_size(load: Load) -> None:
    extension = limited(load, file_size=1 << 20)
    extension.sync.fill(1 << 20)
    with pytest.raises(OSError, match="File too large"):
        extension.sync.fill(2 << 20)


def test_limit_of_temporary_space(load: Load) -> None:
    extension = limited(load, temp_size=1 << 20)
    try:
        extension.sync.fill(1 << 19)
    except SandboxError as error:
        assert "namespaces are permitted" in str(error)  # noqa: PT017 - it depends on the system
        return
    with pytest.raises(OSError, match="No space left"):
        extension.sync.fill(2 << 20)


def test_without_limits_there_are_none(load: Load) -> None:
    extension = load("prisoner")
    assert extension.sync.open_many(100) == 100
    assert extension.sync.start_threads(50) == 50
    extension.sync.fill(4 << 20)
