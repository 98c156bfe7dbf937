"""A check whether other threads of this process may be in an operation on a tensor.

When a tensor moves into shared memory, a thread that computes may still use the address of its old memory.
That memory can be freed at once only if there is no such thread. A thread is known to compute nothing if it
waits in one of the functions below, and if only functions listed below have called that function. This holds
for PyIsolate's threads, the service thread with its event loop, and idle workers of executors.
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
    ("pyisolate._host.poller", "Poller._run"),
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
    """Return whether no other thread that Python knows can be in an operation."""
    waiting, below = set(_codes(_WAITING)), set(_codes(_BELOW))
    own = threading.get_ident()
    return all(
        thread == own or _waits(frame, waiting, below) for thread, frame in sys._current_frames().items()
    )


def _codes(names: Iterable[tuple[str, str]]) -> Iterable[CodeType]:
    """Yield the code objects of functions whose modules have been imported."""
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
    """Set `others_wait` as the hook that is called before a tensor's memory is freed."""
    set_thread_hook(others_wait)
