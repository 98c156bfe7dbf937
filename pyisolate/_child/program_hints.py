"""In an extension's process: notes for errors of code that was written for a program of its own.

An extension has no terminal, is not the main program, and sees few of its host's variables.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from .singleton_check import advise_await

__all__ = ["advise", "end_mute_workers", "refuse_breakpoints"]

_TERMINAL = (
    "the process of an extension has no terminal, and its input is empty. To use a debugger, or to be asked, "
    "load it with 'isolated': False in its configuration: then it runs in the host's process. Or let the "
    "host ask, and call a method with the answer"
)


def refuse_breakpoints() -> None:
    """Have `breakpoint()` say how to debug, unless PYTHONBREAKPOINT says what it does."""

    def breakpoint_hook(*args: Any, **more: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT"):  # also "0": none
            return sys.__breakpointhook__(*args, **more)
        raise RuntimeError(f"breakpoint() cannot be used here: {_TERMINAL}")

    sys.breakpointhook = breakpoint_hook


def advise(error: BaseException, confined: bool) -> str:
    """What to know about an error; empty if nothing is known."""
    if isinstance(error, EOFError) and (
        str(error) == "EOF when reading a line" or _raised_in(error, "getpass")
    ):
        return _TERMINAL
    if type(error).__name__ == "BdbQuit" and type(error).__module__ == "bdb":
        return _TERMINAL
    if confined and isinstance(error, KeyError) and _raised_in(error, "os"):
        return (
            "of its host's environment variables an extension sees those that set up Python and libraries; "
            f"'env' in its configuration gives it others: \"env\": {{{error.args[0]!r}: ...}}"
        )
    if confined and isinstance(error, PermissionError) and _raised_in(error, "multiprocessing.synchronize"):
        return (
            "locks of multiprocessing are files in /dev/shm. This system permits no namespaces, in which an "
            "extension has one of its own; so under 'sandbox' in its configuration 'writable_paths': "
            "['/dev/shm'] permits them, and 'local_sockets': True how its processes send what they share"
        )
    if isinstance(error, ImportError) and error.name == "__main__":
        return (
            "in the process of an extension the host's program is not '__main__': put what both use into a "
            "module of its own, and import that in both"
        )
    return advise_await(error)


def _raised_in(error: BaseException, module: str) -> bool:
    """Whether code of a module of the standard library has raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    there = sys.modules.get(module)
    return traceback is not None and there is not None and traceback.tb_frame.f_globals is vars(there)


def end_mute_workers() -> None:
    """Have workers of `multiprocessing` end that may not open the sockets by which they send what they share.

    They would print an error and go on, and who waits for what they send would wait for ever.
    """
    os.register_at_fork(after_in_child=_watch_queues)


def _watch_queues() -> None:
    queues: Any = sys.modules.get("multiprocessing.queues")
    if queues is not None:
        queues.Queue._on_queue_feeder_error = staticmethod(_end_mute)


def _end_mute(error: BaseException, _: object) -> None:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, PermissionError) and error.errno == errno.EPERM:
        print(
            "a worker could not send what it shares, because it may not use Unix sockets: "
            "'local_sockets': True, under 'sandbox' in the configuration of the extension, permits them",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
