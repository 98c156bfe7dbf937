"""The call that the running code handles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from .. import _core

__all__ = ["CurrentCall", "current_call", "in_local_call"]


class CurrentCall(NamedTuple):
    """The call that the running code handles (`current_call`)."""

    caller: str
    """The name of the extension that has made the call, or ``"host"``."""
    deadline: float | None
    """The time of `time.monotonic` at which the caller stops waiting; None: it has no time limit.

    It is the clock of asyncio's event loops, too: ``asyncio.timeout_at(call.deadline)``.
    """
    generation: int
    """The generation of the extension that has made the call or, in an extension, of its own process: 1 for
    the first process. Objects that belong to an earlier generation are of no use."""


_local: ContextVar[CurrentCall | None] = ContextVar("pyisolate_local_call", default=None)
"""The call of an extension in the host's process, or of its host."""


def current_call() -> CurrentCall | None:
    """Return the call that the running code handles, or None outside of a call.

    Works in a method, plain or async, and in the tasks and the threads of `asyncio.to_thread` that an async
    method starts.
    """
    if (local := _local.get()) is not None:
        return local
    call = _core.current_call()
    return None if call is None else CurrentCall(*call)


@contextmanager
def in_local_call(call: CurrentCall) -> Iterator[None]:
    """Run the ``with`` block as the handler of `call`, which does not come from another process."""
    token = _local.set(call)
    try:
        yield
    finally:
        _local.reset(token)
