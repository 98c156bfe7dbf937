"""Columns of text: `[bytes, offsets, missing]`, for every dtype of pandas that has text.

The bytes are UTF-8, one text after another. `missing` is nil, or an array of bytes that has for each item
0, or 1 + its position in `MISSING`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..._core import join_texts, split_texts
from . import checks, numbers

MISSING = (None, float("nan"), pd.NA, pd.NaT)


def _missing_kind(value: Any) -> int:
    """Return 1 + the position in `MISSING`, or 0."""
    if value is None:
        return 1
    if value is pd.NA:
        return 3
    if value is pd.NaT:
        return 4
    return 2 if isinstance(value, float) and value != value else 0


def _find_missing(items: list[Any]) -> Any:
    """Replace what is missing by empty text. Return its kinds, or None if nothing is missing.

    Raise TypeError for other values.
    """
    found = set(map(type, items))
    if found <= {str}:
        return None
    kinds = np.zeros(len(items), np.uint8)
    for i, item in enumerate(items):
        if type(item) is str:
            continue
        if isinstance(item, str):
            items[i] = "".join((item,))  # the text of a subclass, without its methods
            continue
        kinds[i] = _missing_kind(item)
        if not kinds[i]:
            raise TypeError(f"holds a value of type {type(item).__name__} in row {i}")
        items[i] = ""
    return kinds if kinds.any() else None


def encode_objects(values: Any) -> list[Any]:
    """Return the text of an array of objects. Raise TypeError if it holds anything else."""
    items = values.tolist()
    missing = _find_missing(items)
    try:
        text, offsets = join_texts(items)
    except UnicodeEncodeError:
        raise TypeError("holds text with lone surrogates") from None
    return [np.frombuffer(text, np.uint8), np.frombuffer(offsets, np.int64), missing]


def encode_arrow(chunked: Any, missing: int) -> list[Any]:
    """Return the text of a chunked array of Arrow, whose nulls are of that kind of what is missing."""
    import pyarrow as pa

    chunks = [chunk.cast(pa.large_string()) for chunk in chunked.chunks]
    whole = chunks[0] if len(chunks) == 1 else pa.concat_arrays([*chunks, pa.array([], pa.large_string())])
    _, offsets, data = whole.buffers()
    ends = np.zeros(1, np.int64)
    if len(whole):
        ends = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    text = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    nulls = None
    if whole.null_count:
        nulls = whole.is_null().to_numpy(zero_copy_only=False).astype(np.uint8) * np.uint8(missing)
    return [text, ends if ends[0] == 0 else ends - ends[0], nulls]


class Text:
    """Text that was sent, in private memory, and checked."""

    def __init__(self, value: Any) -> None:
        data, offsets, missing = checks.parts("text", value, 3)
        if checks.need("text", data, np.ndarray).dtype != np.uint8 or data.ndim != 1:
            raise ValueError("the peer sent text that is not bytes")
        self.bytes = data.tobytes()
        self.offsets = numbers.offsets("list of offsets", offsets, len(self.bytes))
        self.missing = (
            None if missing is None else numbers.array("list of what is missing", missing, kinds="u")
        )
        if self.missing is not None and (
            len(self.missing) != len(self) or self.missing.max(initial=0) > len(MISSING)
        ):
            raise ValueError("the peer sent a list of what is missing that does not fit its text")
        text = checks.utf8("text", self.bytes)
        if text is not None:
            starts = self.offsets[self.offsets < len(self.bytes)]
            if (np.frombuffer(self.bytes, np.uint8)[starts] & 0xC0 == 0x80).any():
                raise ValueError("the peer sent text that begins inside a character")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def objects(self) -> Any:
        """Return the items as an array of objects."""
        result = np.empty(len(self), object)
        result[:] = split_texts(self.bytes, self.offsets.tobytes())
        if self.missing is not None:
            for i in self.missing.nonzero()[0]:
                result[i] = MISSING[self.missing[i] - 1]
        return result

    def arrow(self) -> Any:
        """Return the items as an array of Arrow."""
        import pyarrow as pa

        valid = None if self.missing is None else pa.array(self.missing == 0).buffers()[1]
        buffers = [valid, pa.py_buffer(self.offsets), pa.py_buffer(self.bytes)]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)
