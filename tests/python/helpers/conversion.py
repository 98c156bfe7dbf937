"""Sends values through the codec, without a session."""

from __future__ import annotations

import collections
import math
from typing import Any

import msgpack

from pyisolate import _core

EXT = {
    "bigint": 1,
    "tuple": 2,
    "set": 3,
    "str": 8,
    "array": 10,
    "scalar": 11,
    "datetime": 12,
    "date": 13,
    "decimal": 16,
    "uuid": 17,
    "path": 18,
    "enum": 19,
    "record": 20,
    "exception": 21,
    "collection": 28,
    "torch": 29,
    "dtype": 30,
    "instance": 31,
    "converted": 32,
}


def round_trip(value: Any, *classes: type) -> Any:
    """Return what arrives when `value` is sent; `classes` are registered on both sides."""
    registry = _core.Registry()
    for cls in classes:
        registry.register(cls)
    return _core._decode(_core._encode(value, registry), registry)


def throw(error: BaseException, *classes: type, receiver: tuple[type, ...] | None = None) -> BaseException:
    """Return the exception that arrives when `error` is raised on the other side."""
    sender, receiving = _core.Registry(), _core.Registry()
    for cls in classes:
        sender.register(cls)
    for cls in classes if receiver is None else receiver:
        receiving.register(cls)
    return _core._decode(_core._encode(error, sender, True), receiving, 1 << 30, True)


def ext(name: str, payload: Any) -> bytes:
    """Return a body with one extension type, as a peer without this codec would write it."""
    return msgpack.packb(msgpack.ExtType(EXT[name], msgpack.packb(payload)))


def decode(body: bytes) -> Any:
    return _core._decode(body, _core.Registry())


def same(a: Any, b: Any) -> bool:
    """Compare also types, signs of zeros, nan and the order of dicts, at every level."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, collections.defaultdict) and a.default_factory is not b.default_factory:
        return False
    if isinstance(a, collections.deque) and a.maxlen != b.maxlen:
        return False
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, slice):
        return same([a.start, a.stop, a.step], [b.start, b.stop, b.step])
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items())) and same(
            list(getattr(a, "__dict__", {}).items()), list(getattr(b, "__dict__", {}).items())
        )
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return bool(a == b)
