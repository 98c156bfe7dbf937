"""Reports that an environment is being built: live on a terminal, else by two log lines, at start and end."""

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
    """Report progress while an environment is built. Yields a function that takes the installer's output."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return _on_terminal(name) if on_terminal else _in_log(name)


@contextmanager
def _on_terminal(name: str) -> Iterator[Report]:
    from rich.console import Console  # not at module level: most processes never install anything
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        title = f"installing the dependencies of {name}"
        task = progress.add_task(title)
        yield lambda line: progress.update(task, description=f"{title}: {line}")


@contextmanager
def _in_log(name: str) -> Iterator[Report]:
    _log.info("installing the dependencies of %s", name)
    start = time.monotonic()
    yield lambda line: None
    _log.info("installed the dependencies of %s in %.1f s", name, time.monotonic() - start)
