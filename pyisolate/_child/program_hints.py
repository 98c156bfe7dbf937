"""Hints for errors of code that was written for a program and runs in an extension's process.

An extension has no terminal, is not the main program, and sees few of its host's environment variables.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from .singleton_check import hint_for_await

__all__ = ["end_workers_without_sockets", "hint_for", "refuse_breakpoints"]

_TERMINAL = (
    "an extension's process has no terminal, and its standard input is empty. To use a debugger or read "
    "input, load the extension with 'isolated': False in its configuration, so that it runs in the host's "
    "process. Or let the host read the input, and pass it to a method"
)


def refuse_breakpoints() -> None:
    """Make `breakpoint()` raise an error that says how to debug, unless PYTHONBREAKPOINT is set."""

    def breakpoint_hook(*args: Any, **more: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT"):  # "0", too, by which breakpoint() does nothing
            return sys.__breakpointhook__(*args, **more)
        raise RuntimeError(f"breakpoint() cannot be used here: {_TERMINAL}")

    sys.breakpointhook = breakpoint_hook


def hint_for(error: BaseException, confined: bool) -> str:
    """Return a hint on the cause of an error and its remedy; empty if there is none."""
    if isinstance(error, EOFError) and (
        str(error) == "EOF when reading a line" or _raised_in(error, "getpass")
    ):
        return _TERMINAL
    if type(error).__name__ == "BdbQuit" and type(error).__module__ == "bdb":
        return _TERMINAL
    if confined and isinstance(error, KeyError) and _raised_in(error, "os"):
        return (
            "an extension sees only those of its host's environment variables that configure Python and "
            f"libraries; set others by 'env' in its configuration: \"env\": {{{error.args[0]!r}: ...}}"
        )
    if confined and isinstance(error, PermissionError) and _raised_in(error, "multiprocessing.synchronize"):
        return (
            "locks of multiprocessing are files in /dev/shm. This system permits no namespaces, so the "
            "extension has no /dev/shm of its own. Under 'sandbox' in its configuration, 'writable_paths': "
            "['/dev/shm'] permits the locks, and 'local_sockets': True how its processes send what they share"
        )
    if isinstance(error, ImportError) and error.name == "__main__":
        return (
            "in an extension's process the host's program is not '__main__': put what both use into a "
            "module, and import that module in both"
        )
    return hint_for_await(error)


def _raised_in(error: BaseException, module: str) -> bool:
    """Return whether code of a module of the standard library has raised the error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    there = sys.modules.get(module)
    return traceback is not None and there is not None and traceback.tb_frame.f_globals is vars(there)


def end_workers_without_sockets() -> None:
    """Make workers of `multiprocessing` end if they may not open the sockets by which they send objects.

    Otherwise such a worker prints an error and continues, and the process that waits for it waits for ever.
    """
    os.register_at_fork(after_in_child=_watch_queues)


def _watch_queues() -> None:
    queues: Any = sys.modules.get("multiprocessing.queues")
    if queues is not None:
        queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)


def _end_worker(error: BaseException, _: object) -> None:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, PermissionError) and error.errno == errno.EPERM:
        print(
            "a worker could not send what it shares, because it may not use Unix sockets: "
            "'local_sockets': True, under 'sandbox' in the extension's configuration, permits them",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
