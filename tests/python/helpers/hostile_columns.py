"""What a peer can send in place of a value of pandas, polars, pyarrow or PIL. As a program, it forges many.

python hostile_columns.py PACKAGE SEED COUNT
"""

from __future__ import annotations

import contextlib
import faulthandler
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

NASTY: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 255, 2**31, 2**53, -(2**62), 2**62, 2**63 - 1, 2**70, 1.5,
    float("nan"), "", "a", "P", "RGB", "1", "int64", "struct", "list", "null", "range", "multi", "column",
    "labels", "string", "object", b"",
    b"\xff" * 9, [], {}, (), [[]], [None], {"a": 1}, "\ud800", "Europe/Berlin",
]  # fmt: skip


def values(package: str) -> list[Any]:
    """Values whose encoded forms are changed."""
    return list({"pandas": _pandas, "pyarrow": _pyarrow, "polars": _polars, "PIL": _pil}[package]())


def _pandas() -> Iterator[Any]:
    import pandas as pd

    times = pd.date_range("2020", periods=4, tz="UTC")
    frame = pd.DataFrame(
        {
            "f": [1.5, 2, 3, 4],
            "i": [1, 2, 3, 4],
            "b": [True, False, True, True],
            "t": times,
            "s": ["a", None, "\xfc\U0001f600", ""],
            "o": pd.Series(["a", None, "\xfc\U0001f600", ""], dtype=object),
            "c": pd.Categorical(["x", "y", None, "x"]),
            "m": pd.array([1, None, 3, 4], dtype="Int8"),
        },
    )
    yield frame
    yield frame[["f"]]
    yield frame.set_index(["s", "c"])
    yield frame.set_index("t")["o"]
    yield pd.Index(["a", 1, None], dtype=object)


def _pyarrow() -> Iterator[Any]:
    import pyarrow as pa

    arrays = [
        pa.array([1, None, 3]),
        pa.array(["a", None, "\xfc\U0001f600"]),
        pa.array(["a", None, "\xfc\U0001f600"], pa.large_string()),
        pa.array([[1, 2], None, []]),
        pa.array([[[1, 2], None], None, []], pa.large_list(pa.list_(pa.int8(), 2))),
        pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
        pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([True, None, False]),
        pa.array([b"ab", None, b"cd"], pa.binary(2)),
        pa.array([0, None, 0], pa.timestamp("us", "UTC")),
        pa.nulls(3),
    ]
    yield from arrays
    yield pa.table({str(i): array for i, array in enumerate(arrays)})
    yield pa.record_batch(arrays[:3], ["x", "y", "z"])


def _polars() -> Iterator[Any]:
    import polars as pl

    yield pl.DataFrame(
        {
            "i": [1, None, 3],
            "s": ["a", None, "\xfc\U0001f600"],
            "c": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "e": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
            "l": [["x"], None, []],
        }
    )
    yield pl.Series("x", ["a", None])


def _pil() -> Iterator[Any]:
    from PIL import Image

    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "I;16", "F"):
        image = Image.new(mode, (13, 5))
        if mode in ("P", "PA"):
            image.putpalette(bytes(range(256)) * 3)
        image.info = {"dpi": (72, 72)}
        yield image


def functions(value: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The functions that encode and decode a value, as the codec finds them."""
    package = type(value).__module__.partition(".")[0]
    converters = import_module("pyisolate._rpc.converters").load(package)
    for cls in type(value).__mro__:
        for converter in converters:
            if converter.cls is cls:
                return converter.encode, converter.decode
    raise LookupError(type(value))


def sent(value: Any, memories: list[Any] | None = None) -> Any:
    """A copy of an encoded value whose arrays are in memory that the sender can change: `memories`."""
    if type(value) is list:
        return [sent(item, memories) for item in value]
    if isinstance(value, np.ndarray):
        memory = bytearray(value.tobytes())
        array = np.frombuffer(memory, value.dtype).reshape(value.shape)
    elif isinstance(value, memoryview):
        memory = bytearray(value)
        array = memoryview(memory).cast(value.format if value.format in "bB" else "B")
    else:
        return value
    if memories is not None:
        memories.append(memory)
    return array


def use(value: Any) -> None:
    """Use a value as a program would, which reads all of it."""
    repr(value)
    package = type(value).__module__.partition(".")[0]
    if package == "pandas":
        _use_pandas(value)
    elif package == "pyarrow":
        value.validate(full=True)
        value.to_pylist() if hasattr(value, "to_pylist") else value.to_pydict()
        value.take(list(range(0, len(value), 2)))
    elif package == "polars":
        value.to_dict(as_series=False) if hasattr(value, "to_dict") else value.to_list()
        value.sort(value.columns[0]) if hasattr(value, "columns") and value.columns else value.reverse()
    else:
        value.convert("RGBA") if value.mode in ("P", "RGB", "L") else value.copy()
        value.tobytes()


def _use_pandas(value: Any) -> None:
    import pandas as pd

    value.copy()
    if isinstance(value, pd.Index):
        value.tolist()
        value.is_unique  # noqa: B018
        value.get_indexer_for(value[:2])
        return
    value.to_numpy()
    value.isna()
    value.sort_index() if not isinstance(value.index, pd.MultiIndex) else value.index.to_list()
    columns = (
        [value.iloc[:, i] for i in range(value.shape[1])] if isinstance(value, pd.DataFrame) else [value]
    )
    for column in columns:
        column.value_counts()
        column.astype(str)
        column.take([len(column) - 1]) if len(column) else None


def forge(random_: random.Random, value: Any, chance: float) -> Any:
    """A copy of an encoded value with changes."""
    if random_.random() < chance:
        return random_.choice(NASTY)
    if type(value) is list:
        items = [forge(random_, item, chance) for item in value]
        if items and random_.random() < chance:
            items.pop(random_.randrange(len(items)))
        if items and random_.random() < chance:
            items.append(random_.choice(items))
        return items
    if type(value) is dict:
        return {key: forge(random_, item, chance) for key, item in value.items()}
    if isinstance(value, (np.ndarray, memoryview)):
        return _forge_memory(random_, value, chance)
    return value


def _forge_memory(random_: random.Random, value: Any, chance: float) -> Any:
    memory = bytearray(value.tobytes())
    for _ in range(random_.randrange(3)):
        if memory:
            at = random_.randrange(len(memory))
            memory[at] = random_.choice((0, 1, 2, 0x7F, 0x80, 0xC0, 0xFF, memory[at] ^ 1))
    if isinstance(value, memoryview):
        if random_.random() < chance:
            memory = memory[: random_.randrange(len(memory) + 1)]
        return memoryview(memory)
    array = np.frombuffer(memory, value.dtype).reshape(value.shape)
    if random_.random() < chance:
        kinds = ["u1", "i1", "i8", "u8", "f8", "?", "S4", "U2", "M8[ns]", "M8[3D]", ">i8", "V4", "M8"]
        array = (
            np.resize(array.ravel().view(np.uint8), 64).view(random_.choice(kinds[:-2]))
            if array.size
            else array
        )
    if random_.random() < chance:
        array = array[: random_.randrange(len(array) + 1)] if array.ndim else array
    if random_.random() < chance:
        array = np.lib.stride_tricks.as_strided(array, (5, *array.shape), (0, *array.strides))
    return array


def main(package: str, seed: int, count: int) -> None:
    """Forge values. What is refused is refused by an Exception; what is not can be used."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    random_ = random.Random(seed)
    pairs = [(functions(value), value) for value in values(package)]
    taken = 0
    for _ in range(count):
        (encode, decode), value = random_.choice(pairs)
        forged = forge(random_, encode(value), random_.choice((0.0, 0.01, 0.05, 0.2)))
        try:
            made = decode(forged)
        except Exception:
            continue
        taken += 1
        with contextlib.suppress(Exception):  # a value that is in order, but that cannot be shown or sorted
            use(made)
    print(taken, "of", count, "were taken")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
