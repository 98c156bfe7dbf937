"""NumPy arrays and scalars of every dtype without objects and any memory layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conversion import decode, ext, round_trip

from pyisolate import _core

np = pytest.importorskip("numpy")

SIMPLE = [
    "?", "i1", "<i2", ">i4", "i8", "u1", ">u2", "u4", "u8", "f2", "f4", ">f8", "longdouble", "c8", ">c16",
    "clongdouble", "S1", "S7", "U1", ">U3", "V5", "M8", "M8[ns]", ">M8[D]", "m8[25us]", "m8",
]  # fmt: skip
STRUCTURED = [
    [("a", "i4"), ("b", ">f8")],
    [("point", [("x", "f4"), ("y", "f4")]), ("name", "U4")],
    [("grid", "i2", (2, 3)), ("flag", "?")],
    [(("a title", "short"), "u2")],
    {"names": ["a", "b"], "formats": ["u1", "i4"], "offsets": [3, 8], "itemsize": 20},
    {"names": ["late", "early"], "formats": ["i4", "i4"], "offsets": [4, 0]},
    {"names": ["whole", "part"], "formats": ["u4", "u2"], "offsets": [0, 0]},
]
DTYPES = [
    *(np.dtype(name) for name in SIMPLE),
    *(np.dtype(layout) for layout in STRUCTURED),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
]


def filled(dtype: Any, shape: tuple[int, ...]) -> Any:
    """Make an array whose items differ."""
    array = np.zeros(shape, dtype)
    if dtype.names:
        for name in dtype.names:
            field = array[name]
            field[...] = filled(field.dtype, field.shape)
        return array
    count = int(np.prod(shape))
    if dtype.kind == "V":
        numbers: Any = [bytes([i % 250 + 1]) * dtype.itemsize for i in range(count)]
    elif dtype.kind in "SU":
        numbers = [str(i)[: dtype.itemsize] for i in range(count)]
    else:
        numbers = np.arange(count).astype("m8[us]" if dtype == "m8" else "i8")
        numbers = numbers.view("i8") if dtype.kind in "mM" else numbers
    values = np.array(numbers)
    array[...] = (values.view(dtype.newbyteorder("=")) if dtype.kind in "mM" and count else values).reshape(
        shape
    )
    return array


def same_items(a: Any, b: Any) -> bool:
    """Compare bits, without the padding between fields and inside long doubles, which need not be copied."""
    if a.dtype.names:
        return all(same_items(a[name], b[name]) for name in a.dtype.names)
    if a.dtype.char in "gG":
        return bool(np.array_equal(a, b))
    return bool(np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes())


def assert_same(got: Any, sent: Any) -> None:
    assert type(got) is type(sent)
    assert got.dtype == sent.dtype
    assert got.dtype.str == sent.dtype.str
    assert got.dtype.fields == sent.dtype.fields
    assert got.dtype.isalignedstruct == sent.dtype.isalignedstruct
    assert got.shape == sent.shape
    assert same_items(got, sent)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (2, 3), (2, 0, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_shape(dtype: Any, shape: tuple[int, ...]) -> None:
    array = filled(dtype, shape)
    got = round_trip(array)
    assert_same(got, array)
    assert got.flags.writeable
    for view in (array[..., ::2], array[::-1], array.T) if array.ndim else ():
        assert_same(round_trip(view), view)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scalars(dtype: Any) -> None:
    scalar = filled(dtype, (2,))[1]
    got = round_trip([scalar])[0]
    assert type(got) is type(scalar)
    assert got.dtype == scalar.dtype
    assert same_items(np.array(got), np.array(scalar))


def test_scalars_that_are_also_builtin_types() -> None:
    for scalar in (np.float64(-0.0), np.complex128(1j), np.str_("ä\0"), np.bytes_(b"a\0"), np.bool_(True)):
        got = round_trip(scalar)
        assert type(got) is type(scalar)
        assert repr(got) == repr(scalar)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a\0", "a\0\0", "\0", "\0a", "a\0b", "ä\0", "€\0", "\U0001f600\0", "\ud800", "\ud800\0"],
    ids=ascii,
)
def test_text_and_bytes_that_end_with_nul(text: str) -> None:
    """NumPy's `str`, `repr` and `==` do not show these, so their base types are compared."""
    scalar = np.str_(text)
    for got in (round_trip(scalar), round_trip({"a": [scalar]})["a"][0], next(iter(round_trip({scalar: 1})))):
        assert type(got) is np.str_
        assert [ord(c) for c in got] == [ord(c) for c in text]
        assert str.__eq__(got, scalar)
    data = text.encode("utf-8", "surrogatepass")
    for kind, base in ((np.bytes_, bytes), (np.void, None)):
        value = kind(data)
        got = round_trip(value)
        assert type(got) is kind
        assert got.dtype == value.dtype
        assert (bytes.__eq__(got, data) if base else got.tobytes() == data) is True


@pytest.mark.parametrize(
    "value",
    [
        np.longdouble("1.1897e+4932"),
        np.longdouble("nan"),
        np.clongdouble(1 - 2j),
        np.float16("-inf"),
        np.float16(6e-8),
        np.datetime64("2024-02-29T12:30:15.123456789", "ns"),
        np.datetime64(3, "25us"),
        np.datetime64("NaT"),
        np.timedelta64(-3, "W"),
        np.timedelta64("NaT", "s"),
        np.timedelta64(5),
        np.uint64(2**64 - 1),
        np.array((1, b"a\0b", "x\0y"), [("a", ">i4"), ("b", "S3"), ("c", ">U3")])[()],
        np.array((1, (2, 3.5)), [("a", "i1"), ("b", [("c", ">u2"), ("d", "f2")])])[()],
    ],
    ids=repr,
)
def test_other_scalars(value: Any) -> None:
    got = round_trip(value)
    assert type(got) is type(value)
    assert got.dtype == value.dtype
    assert repr(got) == repr(value)


def test_not_a_time() -> None:
    assert np.isnat(round_trip(np.datetime64("NaT", "s")))
    assert np.isnat(round_trip(np.array(["NaT", "2020-01-01"], "M8[s]"))).tolist() == [True, False]


def test_order_is_kept_where_memory_is_contiguous() -> None:
    c = np.arange(24.0).reshape(2, 3, 4)
    for array, order in (
        (c, "C"),
        (np.asfortranarray(c), "F"),
        (c.transpose(1, 0, 2), "C"),
        (c[:, ::-1], "C"),
    ):
        got = round_trip(array)
        assert_same(got, array)
        assert got.flags.c_contiguous == (order == "C")
        assert got.flags.f_contiguous == (order == "F")


@pytest.mark.parametrize("dtype", ["f8", [("a", "i4"), ("b", "f8")]], ids=["plain", "structured"])
def test_read_only_stays_read_only(dtype: Any) -> None:
    array = np.zeros((4, 4), dtype)
    array.setflags(write=False)
    for view in (array, array.T, array[::2, ::2]):
        assert not round_trip(view).flags.writeable
    assert not round_trip(np.broadcast_to(np.zeros(1, dtype), (3, 1))).flags.writeable


def test_array_is_ones_own() -> None:
    array = np.arange(3)
    got = round_trip(array)
    got[0] = 99
    assert array.tolist() == [0, 1, 2]


def test_unaligned_memory() -> None:
    array = np.frombuffer(bytearray(range(17)), "u1")[1:].view("f8")
    assert not array.flags.aligned
    assert_same(round_trip(array), array)


def test_arrays_inside_of_values() -> None:
    got = round_trip({"a": [np.arange(3), (np.float32(1.5),)]})
    assert got["a"][0].tolist() == [0, 1, 2]
    assert type(got["a"][1][0]) is np.float32


def test_structures_that_compare_equal_are_not_confused() -> None:
    """A cache of dtypes that compares by equality would confuse these."""
    packed = np.zeros(2, {"names": ["a", "b"], "formats": ["i4", "i4"]})
    aligned = np.zeros(2, np.dtype([("a", "i4"), ("b", "i4")], align=True))
    for array in (packed, aligned, packed):
        assert_same(round_trip(array), array)
    with pytest.raises(TypeError, match="cannot be sent"):
        round_trip(np.zeros(2, np.dtype((np.record, packed.dtype))))


@pytest.mark.parametrize("dtype", [*DTYPES, np.dtype(("f8", (2, 3))), np.dtype("V"), np.dtype("S")], ids=str)
def test_dtypes_themselves(dtype: Any) -> None:
    got = round_trip({"a": [dtype]})["a"][0]
    assert type(got) is type(dtype)
    assert got == dtype
    assert (got.str, got.fields, got.subdtype) == (dtype.str, dtype.fields, dtype.subdtype)
    assert (got.isalignedstruct, got.itemsize) == (dtype.isalignedstruct, dtype.itemsize)


def test_fields_that_are_renamed_are_those_of_one_array() -> None:
    array = np.zeros(2, [("a", "i4"), ("b", [("c", "f8")])])
    first = round_trip(array)
    first.dtype.names = ("x", "y")
    first.dtype["y"].names = ("z",)
    assert_same(round_trip(array), array)


class Quantity(np.ndarray):  # type: ignore[type-arg,misc]
    pass


class Metres(np.float64):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.zeros(1, [("a", "i4"), ("b", "O")]),
        np.array([[1]]).view(Quantity),
        np.ma.array([1]),
        np.rec.array([(1, 2)]),
        np.rec.array([(1, 2)])[0],
        Metres(1),
        np.dtype("O"),
        np.dtype([("a", "i4"), ("b", "O")]),
        np.dtype((np.record, [("a", "i4")])),
        np.float64,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        round_trip(value)


@pytest.mark.skipif(not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="NumPy 2")
def test_strings_of_variable_length_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        round_trip(np.array(["a"], np.dtypes.StringDType()))


def structure(fields: list[Any], size: Any = 8) -> list[Any]:
    return ["V", size, False, fields]


@pytest.mark.parametrize(
    ("spec", "shape", "data"),
    [
        ("|O", [1], b"x" * 8),
        ("|O8", [1], b"x" * 8),
        ("|T16", [1], b"x" * 16),
        ("O", [1], b"x" * 8),
        ("f8,O", [1], b"x" * 16),
        ("\0f8", [1], b"x" * 8),
        ("<M8[\0]", [1], b"x" * 8),
        ("<f77", [1], b"x" * 77),
        ("<f8" + "0" * 100, [1], b""),
        (structure([["a", "|O", 0, None]]), [1], b"x" * 8),
        (structure([["a", ["A", "|O", [1]], 0, None]]), [1], b"x" * 8),
        (structure([["a", "<f8", 4, None]]), [1], b"x" * 8),
        (structure([["a", "<f8", -8, None]]), [1], b"x" * 8),
        (structure([["a", "<f8", 2**62, None]]), [1], b"x" * 8),
        (structure([["a", "<f8"]]), [1], b"x" * 8),
        (structure([["a", "<f8", 0, None]], "8"), [1], b"x" * 8),
        (structure([["a", "<f4", 0, None], ["a", "<f4", 4, None]]), [1], b"x" * 8),
        (["A", "<f8", [-1]], [1], b"x" * 8),
        (["A", "<f8", [2**40, 2**40]], [1], b"x" * 8),
        (["V", 8, 1, [["a", "<f8", 0, None]]], [1], b"x" * 8),
        (["A"], [1], b""),
        ([], [1], b""),
        (1, [1], b""),
        ("<f8", [2], b"x" * 8),
        ("<f8", [0], b"x" * 8),
        ("<f8", [2**36], b""),
        ("<f8", [2**62, 2**62], b""),
        ("<f8", [2**62, 4], b"x" * 8),
        ("<f8", [-1], b"x" * 8),
        ("<f8", [-1, -1], b"x" * 8),
        ("<f8", [1] * 100, b"x" * 8),
        ("<f8", ["1"], b"x" * 8),
        ("<f8", 1, b"x" * 8),
        ("<f8", [1], "text"),
    ],
)
def test_malformed_arrays(spec: Any, shape: Any, data: Any) -> None:
    with pytest.raises(_core.ProtocolError):
        decode(ext("array", [spec, shape, 0, data]))


@pytest.mark.parametrize(
    "spec",
    [None, 1, [], "", "f8", "|O", "f8,O", ["A", "<f8", [-1]], structure([["a", "|O", 0, None]]), b"<f8"],
    ids=repr,
)
def test_malformed_dtypes(spec: Any) -> None:
    with pytest.raises(_core.ProtocolError):
        decode(ext("dtype", spec))


def test_bytes_behind_a_dtype() -> None:
    assert decode(b"\xc7\x04\x1e\xa3<f8") == np.dtype("f8")
    with pytest.raises(_core.ProtocolError, match="after the end"):
        decode(b"\xc7\x05\x1e\xa3<f8\xc0")
    with pytest.raises(_core.ProtocolError):
        decode(b"\xc7\x00\x1e")


@pytest.mark.parametrize(
    ("spec", "data"),
    [("<f8", b"x"), ("<f8", "1.5"), ("<f8", [1]), ("|V4", "text"), ("<M8[s]", "2020"), ("|O8", b"x" * 8)],
)
def test_malformed_scalars(spec: Any, data: Any) -> None:
    with pytest.raises(_core.ProtocolError):
        decode(ext("scalar", [spec, data]))


def test_nested_descriptions_have_an_end() -> None:
    body = b"\x93\xa1A" * 5000 + b"\xa3<f8" + b"\x90" * 5000
    with pytest.raises(_core.ProtocolError):
        decode(b"\xc9" + (len(body) + 1).to_bytes(4, "big") + b"\x0a" + b"\x94" + body)


RECEIVE = """
import sys
{before}
from pyisolate import _core
assert "numpy" not in sys.modules
registry = _core.Registry()
try:
    print(_core._decode({body!r}, registry))
except ImportError as error:
    print("ImportError:", error)
"""


def receive(before: str, folder: Path) -> str:
    """Return what another process receives as an array after it has run `before`.

    It does not run in the checkout, whose package has no extension module.
    """
    body = _core._encode(np.arange(3), _core.Registry())
    code = RECEIVE.format(before=before, body=body)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_numpy_is_imported_when_an_array_arrives(tmp_path: Path) -> None:
    assert receive("", tmp_path) == "[0 1 2]"


BLOCK = """
class Blocked:
    def find_spec(self, name, *rest):
        if name == "numpy":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
"""


def test_without_numpy_the_error_says_so(tmp_path: Path) -> None:
    assert receive(BLOCK, tmp_path).startswith("ImportError: the peer sent a NumPy array")
