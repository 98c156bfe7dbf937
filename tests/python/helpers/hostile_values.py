"""A program that decodes hostile values and uses them as a host does.

    python hostile_values.py SEED COUNT

Bodies are malformed: fields of the wrong type and range, names with control
characters, values with changed bytes. Decoded objects are shown, logged, copied, pickled, compared and
raised. Every exception that arrives has a text. A crash ends this process, and so does a step
that takes two minutes.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import faulthandler
import io
import logging
import pathlib
import pickle
import random
import sys
import traceback
import uuid
from typing import Any

import msgpack

from pyisolate import _core

try:
    import numpy as np
except ImportError:  # the other values are tried without it
    np = None  # type: ignore[assignment]

TUPLE, SET, FROZENSET, BYTEARRAY, STR = 2, 3, 4, 6, 8
BIGINT, COMPLEX, MEMORYVIEW, ARRAY, SCALAR, DECIMAL, PATH, ENUM, RECORD, EXCEPTION, COLLECTION, DTYPE = (
    *(1, 5, 7, 10, 11, 16, 18, 19, 20, 21, 28, 30),
)


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 8


class Bits(enum.IntFlag):
    A = 1
    B = 4


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    label: Any = None


Pair = collections.namedtuple("Pair", "a b")


class PluginError(Exception):
    """An exception whose text depends on its attributes."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code:d}"


class DecodingError(UnicodeDecodeError):
    pass


class EncodingError(UnicodeEncodeError):
    def __reduce__(self) -> Any:
        return (type(self), (self.encoding, self.object, self.start, self.end, self.reason))


class ParseError(SyntaxError):
    pass


class DiskError(OSError):
    @property
    def filename(self) -> str:  # type: ignore[override]
        raise RuntimeError("hidden")


class LoadError(ImportError):
    def __init__(self, *args: Any) -> None:
        super().__init__("x", name="json", path="p")


CLASSES = (
    Colour,
    Right,
    Bits,
    Point,
    Pair,
    PluginError,
    DecodingError,
    EncodingError,
    ParseError,
    DiskError,
    LoadError,
)
REGISTRY = _core.Registry()
NAMES = [REGISTRY.register(cls) for cls in CLASSES]

EXCEPTIONS = [
    *(
        f"builtins:{name}"
        for name, cls in vars(builtins).items()
        if isinstance(cls, type) and issubclass(cls, BaseException)
    ),
    *(name for name, cls in zip(NAMES, CLASSES, strict=True) if issubclass(cls, BaseException)),
    *("json.decoder:JSONDecodeError", "subprocess:CalledProcessError", "subprocess:TimeoutExpired"),
    *(
        "asyncio.exceptions:CancelledError",
        "asyncio.exceptions:QueueFull",
        "concurrent.futures._base:TimeoutError",
    ),
    *(
        "pyisolate:ExtensionDied",
        "pyisolate:ProtocolError",
        "pyisolate:CallTimeout",
        "torch:OutOfMemoryError",
    ),
    *("this:Zen", "m\x1b[2J:E\nr", "builtins:x", ":", "os", "a:b\u202e"),
]
FIELDS = [
    *(
        "start",
        "end",
        "object",
        "encoding",
        "reason",
        "msg",
        "filename",
        "filename2",
        "lineno",
        "offset",
        "text",
    ),
    *(
        "end_lineno",
        "end_offset",
        "print_file_and_line",
        "_metadata",
        "errno",
        "strerror",
        "characters_written",
    ),
    *(
        "name",
        "path",
        "name_from",
        "obj",
        "value",
        "code",
        "args",
        "exceptions",
        "message",
        "returncode",
        "cmd",
        "output",
    ),
    *(
        "stderr",
        "timeout",
        "doc",
        "pos",
        "colno",
        "pid",
        "signal",
        "type_name",
        "with_traceback",
        "add_note",
        "x",
        "",
    ),
    *("__notes__", "__class__", "__dict__", "__traceback__", "__cause__", "characters\nwritten", "x" * 300),
]


def ext(code: int, payload: Any) -> msgpack.ExtType:
    return msgpack.ExtType(code, pack(payload))


def pack(value: Any) -> bytes:
    return msgpack.packb(value, unicode_errors="surrogatepass")


def big(n: int) -> msgpack.ExtType:
    return msgpack.ExtType(BIGINT, n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True))


class Maker:
    """Generates payloads."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.depth = 0

    def number(self) -> Any:
        choice = self.random.choice
        return choice(
            [0, 1, 2, 3, -1, -2, 5, 7, 255, -(2**60), 2**31, 2**63 - 1, 2**64 - 1, -(2**63), 1.5, True, None]
        )

    def text(self) -> Any:
        pool = [
            "",
            "x",
            "a\nb",
            "\x1b[31m",
            "\u202e",
            "a\0b",
            "abc" * 500,
            "utf-8",
            "ascii",
            "print",
            "json",
            "__class__",
        ]
        if self.random.random() < 0.1:
            return msgpack.ExtType(STR, "a\ud800b".encode("utf-8", "surrogatepass"))
        return self.random.choice(pool)

    def leaf(self) -> Any:
        pick = self.random.randrange(12)
        if pick < 4:
            return self.number()
        if pick < 7:
            return self.text()
        return self.random.choice(
            [
                *(b"", b"x", b"\xff" * 20, None, big(10**5000), big(-(10**700)), big(2**64)),
                ext(BYTEARRAY, b"ab"),
                msgpack.ExtType(COMPLEX, bytes(16)),
                ext(DECIMAL, "1E+999999"),
                ext(DECIMAL, "NaN"),
                ext(PATH, ["PosixPath", "a\n"]),
                ext(ENUM, [NAMES[0], "RED"]),
                ext(ENUM, [NAMES[1], 3]),
                ext(ENUM, [NAMES[2], -2]),
                ext(ENUM, [NAMES[2], 64]),
                ext(MEMORYVIEW, ["B", [2], True, b"ab"]),
                ext(MEMORYVIEW, ["d", [1], True, bytes(8)]),
                *self.arrays(),
            ]
        )

    def arrays(self) -> list[Any]:
        if np is None:
            return []
        structure = ["V", 8, False, [["a\x1b", "<f4", 0, None], ["b", "<i4", 4, "t"]]]
        return [
            ext(ARRAY, ["<f8", [2], 0, bytes(16)]),
            ext(ARRAY, ["<U1", [1], 0, b"\xff\xff\xff\xff"]),
            ext(ARRAY, [structure, [1], 0, bytes(8)]),
            ext(ARRAY, ["|b1", [3], 0, b"\x07\x00\xff"]),
            ext(ARRAY, [">M8[25us]", [1], 0, b"\x7f" + bytes(7)]),
            ext(ARRAY, ["<f8", [0, 2**62], 0, b""]),
            ext(ARRAY, ["|V0", [2**40], 0, b""]),
            ext(SCALAR, ["<M8[Y]", b"\x7f" * 8]),
            ext(SCALAR, ["<U1", "ab"]),
            ext(SCALAR, [structure, bytes(8)]),
            ext(DTYPE, structure),
            ext(DTYPE, ["A", structure, [2, 2]]),
        ]

    def value(self) -> Any:
        self.depth += 1
        try:
            pick = self.random.randrange(10) if self.depth < 6 else 0
            some = [self.value() for _ in range(self.random.randrange(4))] if pick else []
            if pick < 4:
                return self.leaf()
            if pick == 4:
                return some
            if pick == 5:
                return {self.text(): item for item in some} if all(self.is_text() for _ in some) else some
            if pick == 6:
                return ext(self.random.choice([TUPLE, SET, FROZENSET]), some)
            if pick == 7:
                return ext(RECORD, [NAMES[3], {"x": some, "label": self.leaf()}])
            if pick == 8:
                kind = self.random.choice(
                    ["slice", "deque", "range", "OrderedDict", "Counter", "defaultdict", "Ellipsis"]
                )
                return ext(
                    COLLECTION, [kind, *([self.leaf(), self.leaf(), self.leaf()][: self.random.randrange(4)])]
                )
            return self.exception()
        finally:
            self.depth -= 1

    def is_text(self) -> bool:
        return self.random.random() < 0.9

    def args(self) -> list[Any]:
        """Arguments that some class might accept, or any value."""
        pick = self.random.randrange(6)
        if pick == 0:
            return [self.text(), self.leaf(), self.number(), self.number(), self.text()]
        if pick == 1:
            details = [self.leaf() for _ in range(self.random.choice([2, 4, 6, 7]))]
            return [self.text(), self.random.choice([details, ext(TUPLE, details)])]
        if pick == 2:
            return [self.text(), [self.exception() for _ in range(self.random.randrange(3))]]
        return [self.value() for _ in range(self.random.randrange(6))]

    def frames(self) -> Any:
        frame = [self.text(), self.number(), self.text(), self.text()]
        return self.random.choice([None, 1, [frame], [frame] * 70, [self.leaf(), frame, [1, 2, 3, 4]], {}])

    def exception(self) -> Any:
        self.depth += 1
        chance = self.random.random
        fields: dict[str, Any] = {"type": self.random.choice(EXCEPTIONS), "args": self.args()}
        if chance() < 0.7:
            names = self.random.sample(FIELDS, self.random.randrange(6))
            fields["attributes"] = {name: self.value() if self.depth < 6 else self.leaf() for name in names}
        if chance() < 0.3:
            fields["notes"] = [self.leaf() for _ in range(3)]
        if chance() < 0.5:
            fields["traceback"] = self.frames()
        for key in ("cause", "context"):
            if chance() < 0.2 and self.depth < 6:
                fields[key] = self.exception()
        if chance() < 0.2:
            fields["context"] = True
        if chance() < 0.3:
            fields["suppress"] = self.random.choice([True, False, 1])
        self.depth -= 1
        return ext(EXCEPTION, fields)

    def damage(self, body: bytes) -> bytes:
        data = bytearray(body)
        for _ in range(self.random.randrange(1, 5)):
            at = self.random.randrange(len(data))
            pick = self.random.randrange(4)
            if pick == 0:
                data[at : at + self.random.randrange(4)] = self.random.randbytes(self.random.randrange(4))
            elif pick == 1:
                data[at] = self.random.choice(b"\x00\x01\x7f\x80\x90\xc0\xc1\xc7\xc9\xcf\xd3\xdb\xdd\xdf\xff")
            else:
                data[at] = self.random.randrange(256)
            if not data:
                data = bytearray(b"\xc0")
        return bytes(data)


HONEST: list[Any] = [
    [
        1,
        -5,
        1 << 90,
        1.5,
        2j,
        "a",
        "\u00e4\ud800",
        b"b",
        bytearray(b"c"),
        (1, ("x",)),
        {"k": [None, True]},
        {3, (4,)},
    ],
    [
        frozenset({1, frozenset({2})}),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.date(2020, 1, 1),
    ],
    [
        datetime.time(1, fold=1),
        datetime.timedelta(1),
        decimal.Decimal("1.5"),
        uuid.UUID(int=1),
        pathlib.PurePosixPath("/x"),
    ],
    [Colour.RED, Right.READ | Right.WRITE, Bits.A | Bits.B, Point([1]), Pair(1, 2)],
    [
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        collections.deque([1], 3),
    ],
    [range(3), slice(1, None), ..., memoryview(b"abcd").cast("H")],
]
if np is not None:
    HONEST += [
        [np.arange(6).reshape(2, 3), np.float32(1), np.str_("a"), np.dtype([("a", "<f8"), ("b", "<U3")])]
    ]
    HONEST += [
        [
            np.zeros(2, dtype=[("a", "<M8[s]"), ("b", "|S3", (2,))]),
            np.datetime64("2020-01-01"),
            np.zeros((0, 3)),
        ]
    ]

_log = logging.getLogger("hostile")
_log.propagate = False
_log.addHandler(logging.StreamHandler(io.StringIO()))


def attempt(action: Any, *args: Any) -> None:
    with contextlib.suppress(Exception):  # it must not crash; nothing else matters
        action(*args)


def use_exception(error: BaseException) -> None:
    """All of this works for every exception that arrives."""
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "\x1b" not in shown, shown
    assert "\u202e" not in shown, shown
    str(error), repr(error)
    _log.error("failed", exc_info=error)
    with contextlib.suppress(BaseException):
        raise error
    assert error == error
    attempt(pickle.dumps, error)
    attempt(copy.copy, error)


def use(value: Any) -> None:
    if isinstance(value, BaseException):
        use_exception(value)
    for action in (str, repr, hash, pickle.dumps, copy.deepcopy, lambda it: it == it, list, sorted, bytes):
        attempt(action, value)


EXPECTED = (
    _core.ProtocolError,
    TypeError,
    LookupError,
    ImportError,
    ValueError,
    MemoryError,
    OSError,
    RuntimeError,
)


def main(seed: int, count: int) -> None:
    faulthandler.enable()
    maker = Maker(seed)
    bodies = [_core._encode(value, REGISTRY) for value in HONEST]
    for i in range(count):
        faulthandler.dump_traceback_later(120, exit=True)
        pick = i % 4
        body = (
            pack(maker.exception() if pick < 2 else maker.value())
            if pick < 3
            else maker.random.choice(bodies)
        )
        if pick == 3 or maker.random.random() < 0.2:
            body = maker.damage(body)
        try:
            value = _core._decode(body, REGISTRY, 1 << 26)
        except EXPECTED:
            continue
        try:
            use(value)
        except BaseException:
            print(f"{i}: {body!r}", file=sys.stderr)
            raise
    faulthandler.cancel_dump_traceback_later()
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
