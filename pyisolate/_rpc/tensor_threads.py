"""Whether other threads of this process may be in the middle of an operation on a tensor.

A tensor that moves into shared memory leaves memory behind, and a thread that is computing has its address.
That memory can be freed at once if there is no such thread, which is known only of threads that wait in one
of the functions below and came there through nothing else: those of PyIsolate, the service thread with its
event loop, and the workers of executors that have nothing to do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from operator import attrgetter
from types import CodeType, FrameType

from .._core import set_thread_hook

__all__ = ["install", "others_wait"]

_WAITING = (
    ("concurrent.futures.thread", "_worker"),
    ("pyisolate._host.poller", "Watcher._run"),
    ("selectors", "EpollSelector.select"),
)
_BELOW = (
    ("asyncio.base_events", "BaseEventLoop._run_once"),
    ("asyncio.base_events", "BaseEventLoop.run_forever"),
    ("threading", "Thread._bootstrap"),
    ("threading", "Thread._bootstrap_inner"),
    ("threading", "Thread.run"),
)


def others_wait() -> bool:
    """Whether no other thread that Python knows can be inside of an operation."""
    waiting, below = set(_codes(_WAITING)), set(_codes(_BELOW))
    own = threading.get_ident()
    return all(
        thread == own or _waits(frame, waiting, below) for thread, frame in sys._current_frames().items()
    )


def _codes(names: Iterable[tuple[str, str]]) -> Iterable[CodeType]:
    """The code of functions, where their module has been imported."""
    for module, name in names:
        if module in sys.modules:
            yield attrgetter(f"{name}.__code__")(sys.modules[module])


def _waits(frame: FrameType | None, waiting: set[CodeType], below: set[CodeType]) -> bool:
    if frame is None or frame.f_code not in waiting:
        return False
    while frame := frame.f_back:
        if frame.f_code not in below:
            return False
    return True


def install() -> None:
    """Have tensors that move ask `others_wait`."""
    set_thread_hook(others_wait)
