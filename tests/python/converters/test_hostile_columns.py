"""Forged values of other packages, and values that are changed after they were sent."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_columns
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyisolate import Extension, _core

np = pytest.importorskip("numpy")

Load = Callable[..., Extension]
PACKAGES = ["pandas", "pyarrow", "polars", "PIL"]


def need(package: str) -> None:
    pytest.importorskip(package)
    if package == "polars":
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("package", PACKAGES)
def test_forged_values(package: str) -> None:
    """They are refused, or can be used: the process does not crash."""
    need(package)
    program = Path(hostile_columns.__file__)
    command = [sys.executable, str(program), package, "1", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "were taken" in done.stdout


def kept(value: Any) -> Any:
    """What must not change with the sender's memory: all but floats and times of pandas."""
    if type(value).__name__ == "DataFrame" and type(value).__module__.startswith("pandas"):
        return value.select_dtypes(exclude=["float", "datetime", "datetimetz"])
    return value


def same(a: Any, b: Any) -> bool:
    return a.tobytes() == b.tobytes() if hasattr(a, "tobytes") else bool(a.equals(b))


@pytest.mark.parametrize("filling", [0xFF, 0x80, 0x00, 0x7F])
@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_changed_after_it_was_sent(package: str, filling: int) -> None:
    """Offsets, codes, masks and text are in private memory. Floats and times of pandas are not."""
    need(package)
    for value in hostile_columns.values(package):
        encode, decode = hostile_columns.functions(value)
        memories: list[bytearray] = []
        got = decode(hostile_columns.sent(encode(value), memories))
        assert same(kept(got), kept(value))
        for memory in memories:
            memory[:] = bytes([filling]) * len(memory)
        assert same(kept(got), kept(value))
        hostile_columns.use(got)


TEXT = [np.frombuffer(b"a\xc3\xbcb", np.uint8), np.array([0, 1, 3, 4]), None]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({1: np.array([0, 2, 3, 4])}, "inside a character"),
        ({1: np.array([0, 3, 1, 4])}, "decreases"),
        ({1: np.array([1, 1, 3, 4])}, "does not fit its bytes"),
        ({1: np.array([0, 1, 3, 5])}, "does not fit its bytes"),
        ({1: np.array([0, 1, 3, 2**62])}, "does not fit its bytes"),
        ({1: np.array([0, 1, 3, 4], np.int32)}, "does not fit its bytes"),
        ({1: np.array([], np.int64)}, "does not fit its bytes"),
        ({1: np.array([0.0, 1, 3, 4])}, "dtype float64"),
        ({1: np.array([[0, 1, 3, 4]])}, "2 dimensions"),
        ({1: [0, 1, 3, 4]}, "of type list"),
        ({0: np.frombuffer(b"a\xc3\x28b", np.uint8)}, "not UTF-8"),
        ({0: np.frombuffer(b"a\xed\xa0\x80b", np.uint8), 1: np.array([0, 1, 4, 5])}, "not UTF-8"),
        ({0: np.frombuffer(b"abcd", "S1")}, "not bytes"),
        ({0: b"abcd"}, "of type bytes"),
        ({2: np.array([0, 0, 9], np.uint8)}, "does not fit its text"),
        ({2: np.array([0, 0], np.uint8)}, "does not fit its text"),
        ({2: np.array([0, 0, 3], np.uint8)}, "another kind is missing"),
    ],
)
def test_forged_text(change: dict[int, Any], text: str) -> None:
    pytest.importorskip("pandas")
    from pyisolate._rpc.converters.pandas import _decode_index
    from pyisolate._rpc.converters.pandas_columns import decode_column

    good = ["string", "python", 2, TEXT]
    assert decode_column(good, _decode_index).tolist() == ["a", "\xfc", "b"]
    forged = [change.get(i, part) for i, part in enumerate(TEXT)]
    for storage in ("python", "pyarrow"):
        with pytest.raises((ValueError, TypeError), match=text):
            decode_column(["string", storage, 2, forged], _decode_index)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (["numpy", np.array([0, 2], np.uint8).view("?")], "not 0 or 1"),
        (["numpy", np.array(["a"])], "dtype <U1"),
        (["numpy", np.array([1], ">i8")], "dtype >i8"),
        (["numpy", np.array([1], "M8[D]")], "dtype datetime64"),
        (["numpy", np.array([1], "M8[3s]")], "dtype datetime64"),
        (["numpy", np.array([(1, 2)], "i4,i4")], "dtype"),
        (
            ["categorical", ["range", [0, 2, 1], [None], None], np.array([0, 2], np.int8), False],
            "out of range",
        ),
        (
            ["categorical", ["range", [0, 2, 1], [None], None], np.array([-2], np.int64), False],
            "out of range",
        ),
        (["categorical", ["range", [0, 2, 1], [None], None], np.array([0.5]), False], "dtype float64"),
        (["masked", np.array([1, 2]), np.array([0, 3], np.uint8).view("?")], "not 0 or 1"),
        (["masked", np.array([1, 2]), np.array([True])], "does not fit"),
        (["zoned", np.array([1], "M8[ns]"), "Nowhere/Land"], "unknown time zone"),
        (["zoned", np.array([1], "M8[ns]"), ["pytz", "../../etc/passwd"]], ""),
        (["nothing"], "unknown kind"),
        ([], "unknown kind"),
        (None, "of type NoneType"),
    ],
    ids=str,
)
def test_forged_columns(column: Any, text: str) -> None:
    pytest.importorskip("pandas")
    from pyisolate._rpc.converters.pandas import decode_frame

    index = ["range", [0, 2, 1], [None], None]
    with pytest.raises(Exception, match=f"^column 0: .*{text}"):
        decode_frame([["range", [0, 1, 1], [None], None], index, [column], {}, True])


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        (0, "XYZ", "unknown mode"),
        (0, ["RGB"], "unknown mode"),
        (1, 6, "bytes of pixels"),
        (1, -1, "of -1"),
        (1, True, "of type bool"),
        (1, 2**31, "impossible size"),
        (2, 2**40, "impossible size"),
        (3, ["RGB", b""], "wrong palette"),
        (4, None, "info of an image"),
        (4, {"x": {}}, "value in the info"),
        (5, b"123", "of type bytes"),
        (5, memoryview(bytes(74)), "74 bytes of pixels, not 75"),
        (5, memoryview(bytes(150))[::2], "one after another"),
    ],
)
def test_forged_images(part: int, value: Any, text: str) -> None:
    pytest.importorskip("PIL")
    from pyisolate._rpc.converters.pil import decode

    good = ["RGB", 5, 5, None, {}, memoryview(bytes(75))]
    assert decode(good).size == (5, 5)
    with pytest.raises((ValueError, TypeError), match=text):
        decode([value if i == part else item for i, item in enumerate(good)])


def test_an_image_that_is_much_larger_than_its_bytes() -> None:
    pytest.importorskip("PIL")
    from pyisolate._rpc.converters.pil import decode

    with pytest.raises(ValueError, match="too large for its bytes"):
        decode(["L", 0, 2**31 - 1, None, {}, memoryview(b"")])
    with pytest.raises(ValueError, match="wrong palette"):
        decode(["P", 1, 1, None, {}, memoryview(b"1")])
    with pytest.raises(ValueError, match="a palette of 4 bytes"):
        decode(["P", 1, 1, ["RGB", b"1234"], {}, memoryview(b"1")])


def test_many_items_without_data() -> None:
    pytest.importorskip("pyarrow")
    from pyisolate._rpc.converters.pyarrow import decode

    with pytest.raises(ValueError, match="too many items"):
        decode(["array", ["null"], 2**40, [2**40, [None], [], None]])


def test_no_package_is_imported_for_its_values_alone() -> None:
    code = (
        "import sys, pyisolate; assert not {'pandas', 'polars', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd="/")


def test_an_extension_that_changes_what_it_sends_all_the_time(load: Load) -> None:
    """What it sends arrives or is refused. What has arrived does not change, and can be used."""
    pytest.importorskip("pandas")
    extension = load("scribbler", share_numpy=True)
    values = hostile_columns.values("pandas")
    arrived = 0
    for i in range(300):
        try:
            got = extension.sync.send(i)
        except (ValueError, TypeError):
            continue
        arrived += type(got) is type(values[i % len(values)])
        before = repr(kept(got))
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            hostile_columns.use(got)  # times that do not exist
        assert repr(kept(got)) == before
    assert arrived


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=20))
def test_texts_in_one_buffer(texts: list[str]) -> None:
    data, offsets = _core.join_texts(list(texts))
    assert data == "".join(texts).encode()
    assert _core.split_texts(bytes(data), bytes(offsets)) == texts


@pytest.mark.parametrize("offsets", [[], [-1, 1], [0, 5], [2, 1], [0, 2**63 - 1], [1, 2, 0]])
def test_texts_that_are_not_in_their_buffer(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offset"):
        _core.split_texts(b"text", np.array(offsets, np.int64).tobytes())
    with pytest.raises(UnicodeDecodeError):
        _core.split_texts(b"\xff", np.array([0, 1]).tobytes())
    with pytest.raises(TypeError, match="str"):
        _core.join_texts(["a", 1])  # type: ignore[list-item]
