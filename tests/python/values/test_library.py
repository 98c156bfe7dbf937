"""Fractions, arrays, addresses, namespaces, time zones of the standard library; exceptions as values."""

from __future__ import annotations

import array
import datetime
import ipaddress
import sys
import types
import zoneinfo
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from conversion import decode, ext, round_trip
from hypothesis import given
from hypothesis import strategies as st

from pyisolate import Extension, ProtocolError, RemoteError, _core

Load = Callable[..., Extension]
MAX_BITS = 8192

VALUES = [
    Fraction(),
    Fraction(-1, 2),
    Fraction(2**MAX_BITS - 1, 2 ** (MAX_BITS - 1) + 1),
    *(array.array(code, [0, 1, 2]) for code in "bBhHiIlLqQfd"),
    array.array("u", "a\xe9\U0001f600\0"),
    array.array("d"),
    array.array("d", [1.5]) * 100_000,
    ipaddress.ip_address("127.0.0.1"),
    ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("::/0"),
    ipaddress.ip_interface("10.1.2.3/8"),
    ipaddress.ip_interface("fe80::1%3/64"),
    types.SimpleNamespace(),
    types.SimpleNamespace(a=1, b=types.SimpleNamespace(c=[2]), keys="k"),
    zoneinfo.ZoneInfo("Europe/Berlin"),
    datetime.timezone.utc,
    datetime.timezone(datetime.timedelta(hours=-3, microseconds=1), "here"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_survive(value: Any) -> None:
    got = round_trip({"a": [value]})["a"][0]
    assert type(got) is type(value)
    assert got == value


@pytest.mark.skipif(sys.version_info < (3, 13), reason="array.array('w') came with Python 3.13")
def test_arrays_of_wide_characters() -> None:
    value = array.array("w", "a\U0001f600")
    assert round_trip(value) == value
    assert round_trip(value).typecode == "w"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has them")
def test_arrays_that_this_version_lacks() -> None:
    with pytest.raises(TypeError, match=r"from 3\.13"):
        decode(ext("collection", ["array", "w", "abc"]))


def test_zones_are_the_process_s_own() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert round_trip(zone) is zone
    assert round_trip(datetime.timezone.utc) is datetime.timezone.utc


def test_as_keys() -> None:
    value = {Fraction(1, 2): 1, ipaddress.ip_address("::1"): 2, zoneinfo.ZoneInfo("UTC"): 3}
    assert round_trip(value) == value


def test_what_arrives_is_its_own() -> None:
    sent = [types.SimpleNamespace(a=[1]), array.array("i", [1])]
    got = round_trip(sent)
    got[0].a.append(2)
    got[0].b = 3
    got[1].append(2)
    assert sent == [types.SimpleNamespace(a=[1]), array.array("i", [1])]


@given(st.fractions(), st.ip_addresses(), st.dictionaries(st.text(max_size=5), st.integers(), max_size=5))
def test_many(fraction: Fraction, address: Any, attributes: dict[str, int]) -> None:
    kept = {name: value for name, value in attributes.items() if not hasattr(types.SimpleNamespace, name)}
    value = [fraction, address, types.SimpleNamespace(**kept)]
    assert round_trip(value) == value


def test_from_an_extension(load: Load) -> None:
    assert load("echo").sync.echo(VALUES) == VALUES


# ---- what is refused


class Half(Fraction):
    pass


def without_key() -> zoneinfo.ZoneInfo:
    with zoneinfo._common.load_tzdata("UTC") as file:  # type: ignore[attr-defined]
        return zoneinfo.ZoneInfo.from_file(file)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda: Fraction(2**MAX_BITS), "no more than 8192 bits"),
        (lambda: Half(1, 2), "fractions.Fraction(...)"),
        (lambda: types.SimpleNamespace(__class__=1), "hides one of its class"),
        (lambda: types.SimpleNamespace(**{"a" * 201: 1}), "too long"),
        (lambda: ipaddress.ip_address("fe80::1%" + "a" * 300), "no more than 256 characters"),
        (without_key, "zoneinfo.ZoneInfo(key)"),
    ],
)
def test_refused(make: Callable[[], Any], remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        round_trip([make()])
    assert str(caught.value).startswith("value[0]: objects of type ")
    assert remedy in str(caught.value)


def test_errors_say_which_attribute() -> None:
    with pytest.raises(TypeError, match=r"^value\.a\[0\]: "):
        round_trip(types.SimpleNamespace(a=[object()]))


@pytest.mark.parametrize(
    "payload",
    [
        ["Fraction", 1],
        ["Fraction", 1, 0],
        ["Fraction", 1.5, 1],
        ["Fraction", True, 1],
        ["Fraction", "1", 1],
        ["array", "d", b"1234567"],
        ["array", "dd", b""],
        ["array", "", b""],
        ["array", "x", b""],
        ["array", "\0", b""],
        ["array", 1, b""],
        ["array", "d", "text"],
        ["array", "d", [1.0]],
        ["array", "u", b"abcd"],
        ["IPv4Address", 1],
        ["IPv4Address", "::1"],
        ["IPv4Address", "1" * 257],
        ["IPv4Network", "10.0.0.1/8"],
        ["IPv6Interface", None],
        ["SimpleNamespace", []],
        ["SimpleNamespace", {"__class__": 1}],
        ["SimpleNamespace", {1: 1}],
        ["SimpleNamespace", {"a" * 201: 1}],
        ["ZoneInfo", 1],
        ["ZoneInfo", "../../etc/passwd"],
        ["timezone", None],
        ["timezone", 2**40],
        ["timezone", 2**63],
        ["timezone", [0, 1]],
        ["timezone", [0]],
        ["timezone", True],
    ],
    ids=lambda payload: repr(payload)[:40],
)
def test_malformed(payload: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(ext("collection", payload))


def test_a_zone_that_this_system_lacks_fails_one_call() -> None:
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        decode(ext("collection", ["ZoneInfo", "Nowhere/Land"]))


def test_long_numbers_are_not_divided() -> None:
    numbers = _core._encode([2 ** (8 * 2**20), 3 ** (4 * 2**20)], _core.Registry())
    payload = b"\x93\xa8Fraction" + numbers[1:]
    with pytest.raises(ProtocolError, match="too long"):
        decode(b"\xc9" + len(payload).to_bytes(4, "big") + b"\x1c" + payload)


def test_keys_that_all_have_the_same_hash() -> None:
    keys = {Fraction(i * (2**61 - 1) + 1, 1): 0 for i in range(2_000)}
    with pytest.raises(ProtocolError, match="same hash"):
        round_trip(keys)


# ---- exceptions as values


def raised() -> BaseException:
    try:
        raise ValueError("text", 1) from KeyError("cause")
    except ValueError as error:
        return error


def test_exceptions() -> None:
    got = round_trip({"errors": [raised(), OSError(2, "none", "file")]})["errors"]
    assert [type(error) for error in got] == [ValueError, FileNotFoundError]
    assert got[0].args == ("text", 1)
    assert repr(got[0].__cause__) == "KeyError('cause')"
    assert got[0].__traceback__ is not None
    assert got[1].filename == "file"


def test_exceptions_that_mean_something_to_their_loop() -> None:
    """As a value, StopIteration is itself; one that would end the host's program is not."""
    got = round_trip([StopIteration(3), StopAsyncIteration(), SystemExit(1)])
    assert [type(error) for error in got[:2]] == [StopIteration, StopAsyncIteration]
    assert got[0].value == 3
    assert isinstance(got[2], RemoteError) or type(got[2]) is SystemExit


def test_exceptions_from_and_to_an_extension(load: Load) -> None:
    got = load("echo").sync.echo([raised(), {"a": KeyError(1)}])
    assert type(got[0]) is ValueError
    assert got[1]["a"].args == (1,)


def test_an_exception_of_its_own_arguments() -> None:
    error = ValueError()
    error.args = ([error],)
    assert type(round_trip(error)) is ValueError
