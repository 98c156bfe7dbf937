"""Says that an environment is being built: live on a terminal, else a log line at the start and the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["installing"]

_log = logging.getLogger("pyisolate")

Report = Callable[[str], None]


def installing(name: str) -> AbstractContextManager[Report]:
    """While an environment is built; yields a function that takes the installer's latest line."""
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            return _on_terminal(name)
        except ImportError:  # rich is optional
            pass
    return _in_log(name)


def _on_terminal(name: str) -> AbstractContextManager[Report]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def live() -> Iterator[Report]:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            title = f"installing the dependencies of {name}"
            task = progress.add_task(title)
            yield lambda line: progress.update(task, description=f"{title}: {line}")

    return live()


@contextmanager
def _in_log(name: str) -> Iterator[Report]:
    _log.info("installing the dependencies of %s", name)
    start = time.monotonic()
    yield lambda line: None
    _log.info("installed the dependencies of %s in %.1f s", name, time.monotonic() - start)
