"""NumPy arrays in the values of pandas, which are fixed-width numbers.

Floats, complex numbers and times stay in the memory that the sender shares, as in arrays that are sent by
themselves. Integers are copied, since pandas uses them as positions: it checks them, then it uses them.
Booleans are copied, since NumPy counts and selects by them, and may be 0 or 1 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks

UNITS = ("s", "ms", "us", "ns")
ALLOWED = frozenset(
    np.dtype(name)
    for name in [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "longdouble",
        "complex64",
        "complex128",
        "clongdouble",
    ]
) | {np.dtype(f"{kind}8[{unit}]") for kind in "mM" for unit in UNITS}
COPIED = "biu"


def writable(array: Any) -> Any:
    """Return the array, or a view of it, without the mark that pandas puts on what it shares."""
    if array.flags.writeable:
        return array
    view = array.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return array  # its memory is read-only
    return view


def array(what: str, value: Any, dimensions: int = 1, *, copy: bool = False, kinds: str = "biufcmM") -> Any:
    """Return an array that was sent, of one of the dtypes that are allowed.

    It is a copy if it has integers or booleans, or with `copy`.
    """
    checks.need(what, value, np.ndarray)
    if value.ndim != dimensions or value.dtype not in ALLOWED or value.dtype.kind not in kinds:
        raise ValueError(f"the peer sent a {what} of dtype {value.dtype} and {value.ndim} dimensions")
    if not copy and value.dtype.kind not in COPIED:
        return value
    private = np.array(value, copy=True)
    if private.dtype.kind == "b" and private.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"the peer sent a {what} whose truth values are not 0 or 1")
    return private


def codes(what: str, value: Any, categories: int) -> Any:
    """Return a private copy of codes, each -1 or a position in that many categories."""
    private = array(what, value, kinds="i")
    if len(private) and (private.min() < -1 or private.max() >= categories):
        raise ValueError(f"the peer sent a {what} that is out of range")
    return private


def offsets(what: str, value: Any, size: int) -> Any:
    """Return a private copy of the offsets of pieces, one after another, that are `size` bytes together."""
    private = array(what, value, kinds="i")
    if private.dtype != np.int64 or not len(private) or private[0] != 0 or private[-1] != size:
        raise ValueError(f"the peer sent a {what} that does not fit its bytes")
    if (private[1:] < private[:-1]).any():
        raise ValueError(f"the peer sent a {what} that decreases")
    return private
