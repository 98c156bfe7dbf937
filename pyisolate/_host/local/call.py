"""The pending call of a method or function of this process."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Generator
from typing import Any, NoReturn

from ..._rpc.proxies import NotCopied
from ..._util.offload import check_loop, running_loop

__all__ = ["LocalCall"]


class LocalCall(NotCopied, Coroutine[Any, Any, Any]):
    """A pending call, like `pyisolate.Call`. If no event loop runs, the call begins when it is awaited."""

    _not_copied = "this process waits for its result: await it, and use the result"

    def __init__(self, name: str, steps: Coroutine[Any, Any, Any]) -> None:
        self.__name__ = self.__qualname__ = name
        self._awaited = False
        self._waiting: Generator[Any, Any, Any] | None = None
        loop = running_loop()
        self._work: Any = steps if loop is None else loop.create_task(steps)

    def done(self) -> bool:
        """Return whether an await would return at once."""
        return isinstance(self._work, asyncio.Task) and self._work.done()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the method. A later await raises CancelledError."""
        if self._awaited and not isinstance(self._work, asyncio.Task):
            return False
        if not isinstance(self._work, asyncio.Task):
            self._work = asyncio.ensure_future(self._work)  # a task of the running loop
        cancelled: bool = self._work.cancel(msg)
        return cancelled

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._awaited:
            raise RuntimeError(f"the call of {self.__name__!r} was already awaited")
        self._awaited = True
        if not isinstance(self._work, asyncio.Task):
            try:
                check_loop(self.__name__)
            except RuntimeError:
                self._work.close()
                raise
        return (yield from self._work.__await__())

    def send(self, value: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
        return self._waiting.send(value)

    def throw(self, *error: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
            self.cancel()
        return self._waiting.throw(*error)

    def close(self) -> None:
        self._awaited = True
        if self._waiting is not None:
            self._waiting.close()
        if isinstance(self._work, asyncio.Task):
            self._work.cancel()
        else:
            self._work.close()

    def __repr__(self) -> str:
        state = "awaited" if self._awaited else "done" if self.done() else "pending"
        return f"<pyisolate.Call {self.__name__!r} {state}>"

    def _misuse(self, *_: Any) -> NoReturn:
        raise TypeError(
            f"the call of {self.__name__!r} is not its result: write 'await' before it, or call it "
            "with '.sync'"
        )

    __bool__ = __len__ = __getitem__ = __contains__ = _misuse
    __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = _misuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _misuse

    def __del__(self) -> None:
        work = self._work
        if not self._awaited and isinstance(work, asyncio.Task):
            if work.done():
                _forget(work)  # called here, because its loop may have been closed
            elif not work.get_loop().is_closed():
                _unawaited.add(work)
                work.add_done_callback(_forget)
            warnings.warn(f"call of {self.__name__!r} was never awaited", RuntimeWarning, stacklevel=1)


_unawaited: set[asyncio.Task[Any]] = set()
"""Tasks of calls that were not awaited. They continue; an event loop holds only weak references to tasks."""


def _forget(task: asyncio.Task[Any]) -> None:
    """Drop the task, and retrieve its exception so that asyncio does not log it."""
    _unawaited.discard(task)
    if not task.cancelled():
        task.exception()
