"""Rows for functions, references and an application's own classes beside the calls they are made of."""

from __future__ import annotations

import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from rpcbench.fleet import OTHER, Fleet
from rpcbench.harness import Operation, Sampler, timed, timed_sync
from rpcbench.service import Settings

PLAIN = "plain"
"""The series of the same call without what the row is about."""

INTEGER = 42
ITEMS = 9_000
"""Of the JSON-like value: about 1 MB as JSON."""


def _beside(
    fleet: Fleet,
    call: Callable[[], Any],
    plain: Callable[[], Any],
    expected: Any,
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> Operation:
    """Measure `call`, which answers `expected`, beside `plain`. `prepare` runs once, before the first."""
    host, ready = fleet.host, prepare is None
    measure = timed(call, lambda answer: bool(answer == expected))

    async def sample(runs: int) -> list[int]:
        nonlocal ready
        if not ready:
            assert prepare is not None
            await prepare()
            ready = True
        return await measure(runs)

    return Operation(
        sample=sample,
        sample_local=timed(lambda: host.local_echo(INTEGER), lambda _: True),
        collect=fleet.main.collect,
        series={PLAIN: timed(plain, lambda _: True)},
    )


def function_call(fleet: Fleet) -> Operation:
    """Call a function that the extension has returned."""
    extension, given = fleet.main, [print]

    async def prepare() -> None:
        given[0] = await extension.give_echo()

    return _beside(fleet, lambda: given[0](INTEGER), lambda: extension.echo(INTEGER), INTEGER, prepare)


def function_passed_again(fleet: Fleet) -> Operation:
    """Pass a function that the extension holds already."""
    extension = fleet.main

    def known() -> None: ...

    async def prepare() -> None:
        await extension.hold(known)

    return _beside(fleet, lambda: extension.take(known), lambda: extension.take(INTEGER), None, prepare)


def function_passed_first(fleet: Fleet) -> Operation:
    """Pass a new function each time, which the extension drops."""
    extension = fleet.main
    return _beside(fleet, lambda: extension.take(lambda: 0), lambda: extension.take(INTEGER), None)


def ref_method(fleet: Fleet) -> Operation:
    """Call a method of an object that stays in the extension."""
    extension, given = fleet.main, [fleet.main]

    async def prepare() -> None:
        given[0] = await extension.give_ref()

    return _beside(fleet, lambda: given[0].echo(INTEGER), lambda: extension.echo(INTEGER), INTEGER, prepare)


def ref_through_host(fleet: Fleet) -> Operation:
    """Call a method of an object that stays in another extension; timed in the extension that calls."""
    extension, other, host, ready = fleet.main, fleet.host.extensions[OTHER], fleet.host, False

    async def sample(runs: int) -> list[int]:
        nonlocal ready
        if not ready:
            await extension.hold(await other.give_ref())
            ready = True
        return list(await extension.sample_held(INTEGER, runs))

    async def plain(runs: int) -> list[int]:
        return list(await extension.sample_host(INTEGER, runs))

    return Operation(
        sample=sample,
        sample_local=timed(lambda: host.local_echo(INTEGER), lambda _: True),
        collect=extension.collect,
        series={PLAIN: plain},
    )


def own_class(fleet: Fleet) -> Operation:
    """Send an instance of a class that is registered with `encode` and `decode`, and get it back."""
    extension, settings = fleet.main, Settings({"threads": 4, "name": "default", "scale": 1.5})
    return _beside(fleet, lambda: extension.echo(settings), lambda: extension.echo(settings.values), settings)


def json_like(fleet: Fleet) -> Operation:
    """Send a value of 1 MB that JSON could hold, and get it back.

    Beside it: encoding and decoding it twice in this process, as any transport has to, by other packages.
    """
    extension, host = fleet.main, fleet.host
    value = {
        "items": [
            {"id": i, "name": f"item {i}", "tags": ["a", "b", "c"], "score": i / 7} for i in range(ITEMS)
        ]
    }
    size = len(json.dumps(value, separators=(",", ":")))
    return Operation(
        sample=timed(lambda: extension.echo(value), lambda answer: bool(answer == value)),
        sample_local=timed(lambda: host.local_echo(value), lambda _: True),
        collect=extension.collect,
        series=_codecs(value),
        size=size,
    )


def _codecs(value: Any) -> dict[str, Sampler]:
    pairs: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "json": (json.dumps, json.loads),
        "pickle": (lambda v: pickle.dumps(v, 5), pickle.loads),
    }
    try:
        import orjson

        pairs["orjson"] = (orjson.dumps, orjson.loads)
    except ImportError:
        pass
    try:
        import msgpack

        pairs["msgpack"] = (msgpack.packb, msgpack.unpackb)
    except ImportError:
        pass

    def twice(dumps: Callable[[Any], Any], loads: Callable[[Any], Any]) -> Sampler:
        return timed_sync(lambda: loads(dumps(loads(dumps(value)))), lambda _: True)

    return {name: twice(*pair) for name, pair in pairs.items()}


ROWS: tuple[tuple[str, Callable[[Fleet], Operation]], ...] = (
    ("function_call", function_call),
    ("function_passed_again", function_passed_again),
    ("function_passed_first", function_passed_first),
    ("ref_method", ref_method),
    ("ref_through_host", ref_through_host),
    ("own_class", own_class),
    ("json_like_1mb", json_like),
)
"""Names, and what is measured."""
