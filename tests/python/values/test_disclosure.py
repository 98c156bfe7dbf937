"""What an extension gets from its host: type and text of exceptions, and methods of an object's class."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import host_side
import pytest
from peers import peer

from pyisolate import Extension, RemoteError, SandboxMode, register_type

Load = Callable[..., Extension]
SECRET = "hunter2"


def told(extension: Extension, name: str) -> dict[str, Any]:
    seen: dict[str, Any] = extension.sync.call(name)
    return seen


@pytest.fixture
def curious(load: Load) -> Extension:
    host_side.Told()
    return load("curious", apis=[host_side.Told])


@pytest.fixture
def trusted(load: Load) -> Extension:
    host_side.Told()
    return load("curious", name="trusted", apis=[host_side.Told], sandbox_mode=SandboxMode.DISABLED)


# The name of the class, and the text.
EXCEPTIONS = {
    "plain": ("ValueError", "no"),
    "caused": ("ValueError", "no"),
    "handled": ("ValueError", "no"),
    "attributes": ("ValueError", "no"),
    "notes": ("ValueError", "no"),
    "arguments": ("ValueError", "('<opaque>', 1)"),
    "unregistered": ("host_side.Unregistered", "no"),
    "undecodable": (
        "UnicodeDecodeError",
        "'utf-8' codec can't decode byte 0xff in position 8: invalid start byte",
    ),
    "unencodable": (
        "UnicodeEncodeError",
        "'ascii' codec can't encode character '\\xff' in position 8: ordinal not in range(128)",
    ),
    "syntax": ("SyntaxError", "invalid syntax (settings.py, line 1)"),
    "json": (
        "json.decoder.JSONDecodeError",
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    "attribute": ("AttributeError", "'dict' object has no attribute 'get_it'"),
    "later": ("host_side.Unregistered", "no"),
}
WITHOUT_SECRET = {"arguments", "key"}
"""An unconfined extension does not see it in these either."""


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_a_confined_extension_gets_type_and_text(curious: Extension, trusted: Extension, name: str) -> None:
    seen = told(curious, name)
    assert (seen["name"], seen["text"]) == EXCEPTIONS[name]
    assert SECRET not in str(seen)
    assert "host_side.py" not in seen["printed"]
    if name not in WITHOUT_SECRET and not (name == "notes" and sys.version_info < (3, 11)):
        everything = str(told(trusted, name))
        assert SECRET in everything or "host_side.py" in everything


def test_errors_of_the_system_keep_number_and_file(curious: Extension) -> None:
    seen = told(curious, "missing")
    assert (seen["name"], seen["errno"], seen["filename"]) == ("FileNotFoundError", 2, "/no/such/file")
    assert seen["text"] == "[Errno 2] No such file or directory: '/no/such/file'"
    assert told(curious, "key")["text"] == "'user'"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of exceptions")
def test_groups_are_told_like_what_is_in_them(curious: Extension) -> None:
    seen = told(curious, "group")
    assert (seen["name"], seen["text"]) == ("ExceptionGroup", "both (2 sub-exceptions)")
    assert [inner["text"] for inner in seen["exceptions"]] == ["no", "no"]
    assert SECRET not in str(seen)


def test_of_a_registered_class_attributes_are_told(load: Load) -> None:
    register_type(host_side.Registered)
    host_side.Told()
    seen = told(load("curious", apis=[host_side.Told]), "registered")
    assert (seen["name"], seen["text"], seen["code"]) == ("Registered", "code 7", 7)
    assert SECRET not in str(seen)


# ---- what can be called ----

PEER = """
class Peer:
    def attempt(self, name, *args):
        try:
            return host(name, sync=True)(*args)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
"""


class Offered:
    evaluated: ClassVar[list[str]] = []

    class Inner:
        def __init__(self) -> None:
            Offered.evaluated.append("class")

    def __init__(self) -> None:
        self.shadowed = lambda: Offered.evaluated.append("shadowed")  # type: ignore[method-assign]
        self.own = lambda: Offered.evaluated.append("own")

    def __getattr__(self, name: str) -> Any:
        Offered.evaluated.append(name)
        return lambda: "found"

    @property
    def value(self) -> Callable[[], str]:
        Offered.evaluated.append("value")
        return lambda: "evaluated"

    @functools.cached_property
    def cached(self) -> Callable[[], str]:
        Offered.evaluated.append("cached")
        return lambda: "evaluated"

    partial = functools.partial(evaluated.append, "partial")
    instance = type("Callable", (), {"__call__": lambda self: "called"})()
    wrapped_class = staticmethod(Inner)

    def plain(self, number: int, more: int = 0) -> int:
        return number + more

    def shadowed(self) -> str:
        return "of the class"

    @staticmethod
    def static(number: int) -> int:
        return number

    @classmethod
    def of_class(cls, number: int) -> tuple[str, int]:
        return cls.__name__, number

    @functools.lru_cache  # noqa: B019
    def remembered(self, number: int) -> int:
        return number

    bound = functools.partialmethod(plain, more=1)
    builtin = staticmethod(len)


NOT_FUNCTIONS = ["value", "cached", "own", "Inner", "evaluated", "partial", "instance", "wrapped_class"]
NOT_FUNCTIONS += ["nothing", "plain_", "__class__", "_private"]


class Numbers(list):  # type: ignore[type-arg]
    pass


def test_functions_of_the_class_can_be_called_and_nothing_else() -> None:
    Offered.evaluated.clear()
    with peer(PEER, Offered()) as session:
        attempt = session.method(1, "attempt", sync=True)
        assert attempt("plain", 1) == 1
        assert attempt("shadowed") == "of the class"
        assert attempt("static", 2) == 2
        assert list(attempt("of_class", 3)) == ["Offered", 3]
        assert attempt("remembered", 4) == 4
        assert attempt("bound", 5) == 6
        assert attempt("builtin", "abc") == 3
        for name in NOT_FUNCTIONS:
            assert attempt(name).startswith("AttributeError: "), name
        assert Offered.evaluated == []


def test_methods_in_c_can_be_called() -> None:
    with peer(PEER, Numbers([3, 1])) as session:
        attempt = session.method(1, "attempt", sync=True)
        assert attempt("count", 3) == 1
        assert attempt("append", 2) is None
        assert attempt("index", 2) == 2


def test_remote_errors_keep_their_names(load: Load) -> None:
    with pytest.raises(RemoteError) as caught:
        load("curious").sync.fail()
    assert caught.value.type_name.endswith("OwnError")
