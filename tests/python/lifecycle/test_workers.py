"""Workers of an extension import its module, which is in no folder of sys.path, and run its functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from possible import can_lock

from pyisolate import Extension


@pytest.mark.skipif(not can_lock(), reason="this system has no locks for processes (/dev/shm)")
@pytest.mark.parametrize("start_method", ["fork", "exec"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_functions_of_its_module_run_in_workers(load: Callable[..., Extension], method: str) -> None:
    extension = load("my-workers", sandbox_mode="disabled")
    assert extension.with_timeout(60).sync.squares(method) == [0, 1, 4, 9]
