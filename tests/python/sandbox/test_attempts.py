"""Extensions try to escape, wherever a host may run: as any user, on any kernel, in any container.

The attempts are those of extensions/prisoner, listed in test_sandbox.py, and of
extensions/fugitive, listed in attempts.py. All are made in each place, by a host that is a program of
its own (attempts_host.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attempts_host
import filters
import pytest
import wrappers
from attempts import HIDDEN, NOTHING, TABLE
from processes import run_python

HOST = Path(attempts_host.__file__)
BY_LAYERS: dict[Any, list[str]] = {}
for _attempt in TABLE:
    BY_LAYERS.setdefault(_attempt.omitted, []).append(_attempt.name)


def both(first: list[str], second: list[str] | None) -> list[str] | None:
    return None if second is None else [*first, *second]


CONTAINERS: dict[str, Callable[[Path], list[str] | None]] = {
    "in Docker, without namespaces": lambda folder: wrappers.in_a_container(filters.DOCKER),
    "in podman": lambda folder: wrappers.in_a_container(filters.PODMAN, user=True),
}
# place: the command that runs the host there, or None if it is not available
PLACES: dict[str, Callable[[Path], list[str] | None]] = {
    "as itself": lambda folder: ["env"],
    "as a user": wrappers.as_a_user,
    "without capabilities": lambda folder: wrappers.without_capabilities(),
    "without namespaces": lambda folder: wrappers.without_calls(),
    "in a chroot": wrappers.in_a_chroot,
    "with Landlock 1": lambda folder: wrappers.with_landlock_of(1),
    "with Landlock 1, without namespaces": lambda folder: both(
        wrappers.with_landlock_of(1), wrappers.without_calls()
    ),
    **CONTAINERS,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with wrappers.public_folder() as path:
        yield path


def run(folder: Path, wrapper: Sequence[str], jobs: list[Any]) -> Any:
    done = run_python(
        [str(HOST)],
        folder,
        wrapper=wrapper,
        source=json.dumps(jobs),
        environ={"TMPDIR": str(folder)},
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def refused() -> dict[str, frozenset[str]]:
    return {attempt.name: attempt.refused for attempt in TABLE}


@pytest.mark.parametrize("place", PLACES)
def test_no_way_out(place: str, folder: Path) -> None:
    wrapper = PLACES[place](folder)
    if wrapper is None:
        pytest.skip("this user, or this system, cannot make such a place")
    result = run(folder, wrapper, [[[], None]])
    (found,), layers = result["found"], result["layers"]
    if "without namespaces" in place:
        assert not layers["namespaces"]
    if place == "in podman":
        assert layers["namespaces"]
    if "Landlock 1" in place:
        assert not layers["network"]
    # a container refuses some calls itself, with its own errors, and covers some files
    others = HIDDEN if place in CONTAINERS else frozenset()
    unexpected = {
        name: error
        for name, error in found.items()
        if error not in refused().get(name, {error} - {"done"}) | others
    }
    assert unexpected == {}
    assert not [error for error in found.values() if not error.startswith("E") and error != "done"]
    assert refused().keys() <= found.keys()
    assert len(found) > 500


@pytest.mark.parametrize("omitted", [layers for layers in BY_LAYERS if layers != NOTHING], ids=str)
def test_without_its_layers_each_succeeds(omitted: tuple[int, ...] | None, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("some of these are refused to all but root")
    names = BY_LAYERS[omitted]
    kept, open_to_all = run(folder, ["env"], [[omitted, names], [None, names]])["found"]
    assert [name for name in names if kept[name] != "done" and open_to_all[name] == "done"] == []


def test_each_attempt_is_in_the_table_once(folder: Path) -> None:
    names = [attempt.name for attempt in TABLE]
    assert len(names) == len(set(names)) >= 200
