"""A time limit for each test, and a list of those that were begun.

By that tests/gpu/run.py goes on after one that took the process with it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE, LIMIT = 120, 150
"""Seconds until a test is interrupted, and until the process ends where that does not help: in the driver."""
FOLDER = os.environ.get("PYISOLATE_GPU_RESULTS")


def begun() -> list[str]:
    """Tests of earlier processes of this run."""
    file = Path(FOLDER or "", "begun.txt")
    return file.read_text().splitlines() if FOLDER and file.exists() else []


def note(name: str, line: str) -> None:
    if FOLDER:
        with Path(FOLDER, name).open("a") as file:
            file.write(line + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = set(begun())
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_logstart(nodeid: str) -> None:
    note("begun.txt", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        note("outcomes.txt", f"{outcome} {report.nodeid}")


def interrupt(number: int, frame: Any) -> None:
    raise TimeoutError(f"the test did not end within {PATIENCE} s")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    last_words = Path(FOLDER, "hung.txt").open("a") if FOLDER else sys.__stderr__  # noqa: SIM115
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=last_words)
    alone = not item.config.pluginmanager.hasplugin("timeout")  # it has an alarm of its own
    if alone:
        signal.signal(signal.SIGALRM, interrupt)
        signal.alarm(PATIENCE)
    yield
    if alone:
        signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()
    if FOLDER and last_words is not None:
        last_words.close()
