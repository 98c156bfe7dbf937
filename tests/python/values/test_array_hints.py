"""Objects of NumPy that cannot be sent: the error names a replacement, and that is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conversion import round_trip
from hints import refused, sent_as_told

np: Any = pytest.importorskip("numpy", reason="NumPy is not installed")


class Quantity(np.ndarray):  # type: ignore[misc]
    pass


class Metres(np.float64):  # type: ignore[misc]
    pass


class Single(np.float32):  # type: ignore[misc]
    pass


RECORDS = [("a", "<i4"), ("b", "<f8", (2,))]


def memmap(tmp_path: Path) -> Any:
    array = np.memmap(tmp_path / "file", dtype="i4", mode="w+", shape=(3,))
    array[:] = range(3)
    return array


ARRAYS: dict[str, Callable[[], Any]] = {
    "matrix": lambda: np.matrix([[1, 2]]),
    "subclass": lambda: np.arange(3).view(Quantity),
    "chararray": lambda: np.char.array(["a", "b"]),
    "recarray": lambda: np.rec.array([(1, (2.0, 3.0))], dtype=RECORDS),
    "recarray, aligned": lambda: np.rec.array(
        [(1, 2.0)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)
    ),
    "recarray, every second": lambda: np.rec.array([(1, (2.0, 3.0))] * 4, dtype=RECORDS)[::2],
    "array of records": lambda: np.zeros(2, np.dtype((np.record, RECORDS))),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays(make: Callable[[], Any]) -> None:
    value = make()
    got = sent_as_told(round_trip, value)
    assert type(got) is np.ndarray
    assert str(got.tolist()) == str(value.tolist())
    assert got.dtype.names == value.dtype.names


def test_a_file(tmp_path: Path) -> None:
    assert sent_as_told(round_trip, memmap(tmp_path)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1, 2], mask=[False, True]),
        np.ma.array([1, 2]),
        np.ma.array([(1, (2.0, 3.0))], dtype=RECORDS, mask=[(True, (False, True))]),
        np.ma.array(np.arange(3).view(Quantity)),
        np.ma.masked,
    ],
    ids=["some", "none", "structure", "of a subclass", "masked"],
)
def test_masked_arrays(value: Any) -> None:
    data, mask = sent_as_told(round_trip, value)
    assert type(data) is np.ndarray
    assert str(np.ma.array(data, mask=mask)) == str(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1, "a", None], object), [1, "a", None]),
        (np.array([[1.5], [2]], object), [[1.5], [2]]),
        (np.array([(1, "x")], [("a", "i4"), ("b", "O")]), [(1, "x")]),
        (np.array([(1, "x")], [("a", "i4"), ("b", "O")])[0], (1, "x")),
        (np.ma.array([1, "a"], object, mask=[0, 1]), None),
        (np.rec.array([(1, 2.0)])[0], (1, 2.0)),
        (Metres(1.5), 1.5),
        (Single(1.5), 1.5),
    ],
    ids=["objects", "grid", "structure", "void", "masked", "record", "subclass", "subclass of float32"],
)
def test_objects_and_scalars(value: Any, expected: Any) -> None:
    if expected is None:  # two steps: each error names the next one
        refused(round_trip, value)
        assert sent_as_told(round_trip, value.data) == value.data.tolist()
    else:
        assert sent_as_told(round_trip, value) == expected


@pytest.mark.skipif(not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="NumPy 2")
def test_strings_of_variable_length() -> None:
    assert sent_as_told(round_trip, np.array(["a", "bcd"], np.dtypes.StringDType())) == ["a", "bcd"]


def test_dtypes() -> None:
    got = sent_as_told(round_trip, np.dtype((np.record, RECORDS)))
    assert got == np.dtype(RECORDS)
    assert got.type is np.void
    assert np.dtype(sent_as_told(round_trip, np.dtype("O"))) == np.dtype("O")
