"""The host can print, log, copy and raise any exception that an extension sends.

It is freed completely, and shows no invented frames or lines of files.
"""

from __future__ import annotations

import copy
import gc
import io
import linecache
import logging
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import msgpack
import paths
import pytest
from conversion import EXT, decode, ext, throw

from pyisolate import RemoteError, _core

FAR = 1 << 60
ESCAPES = "\x1b[2J\x1b]0;title\x07\r\x08\x9b1m\u202e\u2066\u2028\u200f\x85\x0c"
"""Terminal escapes, and characters that move back in a line, reverse its direction or end it."""


def exception(name: str, **fields: Any) -> Any:
    """An exception as a hostile peer may write it."""
    return decode(ext("exception", {"type": name if ":" in name else f"builtins:{name}", **fields}))


def shown(error: BaseException) -> str:
    """Return the exception's text in every form that a host can see. All of them must work."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.Logger("shown")
    logger.addHandler(handler)
    logger.error("%s", repr(error), exc_info=error)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert text in log.getvalue() + "\n"
    with pytest.raises(type(error)) as caught:
        raise error
    assert caught.value is error
    copies = copy.copy(error), pickle.loads(pickle.dumps(error))
    assert {type(it) for it in copies} == {type(error)}
    assert error == error
    return f"{error} {error!r} {text} {copies[0]} {copies[1]}"


# ---- fields ----


@pytest.mark.parametrize(
    ("args", "attributes"),
    [
        (["utf-8", b"x", -FAR, 1 - FAR, "r"], {}),
        (["utf-8", b"x", -2, -1, "r"], {}),
        (["utf-8", b"x", FAR, FAR + 1, "r"], {}),
        (["utf-8", b"xx", 1, 1, "r"], {}),
        (["utf-8", b"", 0, 1, "r"], {}),
        (["utf-8", b"x", 0, 1, "r"], {"start": -FAR, "end": 1 - FAR}),
        (["utf-8", b"x", 0, 1, "r"], {"object": 5}),
        (["utf-8", b"x", 0, 1, "r"], {"object": None}),
        (["utf-8", b"x", 0, 1, "r"], {"object": []}),
        (["utf-8", b"x", 0, 1, "r"], {"object": b""}),
        (["utf-8", b"x", 0, 1, "r"], {"start": "0"}),
        (["utf-8", b"x", 0, 1, "r"], {"end": 1 << 63}),
        (["utf-8", b"x", 0, 1, "r"], {"encoding": []}),
        (["utf-8", b"x", 0, 1, "r"], {"reason": {}}),
        ([], {"object": b"abc", "start": -3, "end": -2}),
        ([1], {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["UnicodeDecodeError", "UnicodeEncodeError", "UnicodeTranslateError"])
def test_positions_of_unicode_errors(name: str, args: list[Any], attributes: dict[str, Any]) -> None:
    """CPython reads the object at the offsets in the fields, without checking them."""

    def adapted(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) and name != "UnicodeDecodeError" else value

    args = [adapted(arg) for arg in args][name == "UnicodeTranslateError" :]
    got = exception(name, args=args, attributes={key: adapted(value) for key, value in attributes.items()})
    assert isinstance(got, RemoteError)
    assert got.type_name == f"builtins.{name}"
    assert list(got.args) == args
    assert "in position" not in shown(got)


class Decoding(UnicodeDecodeError):
    pass


class Encoding(UnicodeEncodeError):
    def __init__(self, *args: Any) -> None:
        super().__init__("ascii", "\u00e4bc", 0, 1, "why")

    def __reduce__(self) -> Any:
        return (type(self), ())


@pytest.mark.parametrize("cls", [Decoding, Encoding])
def test_registered_unicode_errors(cls: Any) -> None:
    error = Decoding("utf-8", b"a\xff", 1, 2, "invalid start byte") if cls is Decoding else Encoding()
    got: Any = throw(error, cls)
    assert type(got) is cls
    assert str(got) == str(error)
    assert (got.encoding, got.object, got.start, got.end) == (
        error.encoding,
        error.object,
        error.start,
        error.end,
    )
    registry = _core.Registry()
    name = registry.register(cls)
    thing = b"x" if cls is Decoding else "x"
    for attributes in ({"object": thing, "start": -FAR, "end": 1 - FAR}, {"object": 7}, {"object": thing}):
        body = ext("exception", {"type": name, "args": [1], "attributes": attributes})
        got = _core._decode(body, registry)
        assert isinstance(got, RemoteError)
        shown(got)


@pytest.mark.parametrize(
    ("name", "args", "attributes"),
    [
        ("SyntaxError", ["x", ["f", [], {}, "t"]], {}),
        (
            "SyntaxError",
            ["x", ["f", 1, 1, "t", 1, 2, [1, 2, "import os"]]],
            {},
        ),  # 3.14 compiles the source that it finds
        ("SyntaxError", ["x"], {"msg": []}),
        ("SyntaxError", ["x"], {"text": b"x", "offset": 1}),
        ("SyntaxError", ["x"], {"filename": 1}),
        ("SyntaxError", ["x"], {"lineno": "1"}),
        ("SyntaxError", ["x"], {"end_offset": [], "offset": 1, "text": "abc"}),
        ("SyntaxError", ["x"], {"print_file_and_line": []}),
        ("IndentationError", ["x"], {"lineno": 1.5}),
        ("OSError", [[], "x"], {}),
        ("OSError", [2, []], {}),
        ("OSError", [2, "x", []], {}),
        ("OSError", [2, "x", "f", 0, {}], {}),
        ("OSError", [2, "x"], {"errno": "2"}),
        ("OSError", [2, "x"], {"filename2": 1.5}),
        ("FileNotFoundError", [2, "x"], {"strerror": 5}),
        ("ImportError", ["x"], {"name": []}),
        ("ImportError", ["x"], {"msg": 1}),
        ("ModuleNotFoundError", ["x"], {"path": 1}),
        ("NameError", ["x"], {"name": {}}),
        ("NameError", ["x"], {"name": 5}),
        ("UnboundLocalError", ["x"], {"name": b"x"}),
        ("AttributeError", ["x"], {"name": []}),
        ("subprocess:CalledProcessError", [1, "x"], {}),
        (
            "subprocess:CalledProcessError",
            [1, "x"],
            {"returncode": "-1", "cmd": "x", "output": None, "stderr": None},
        ),
        (
            "subprocess:CalledProcessError",
            [1, "x"],
            {"returncode": 1, "cmd": 1, "output": None, "stderr": None},
        ),
        ("subprocess:TimeoutExpired", [1, "x"], {"cmd": "x", "timeout": [], "output": None, "stderr": None}),
        ("json.decoder:JSONDecodeError", ["x"], {}),
        ("json.decoder:JSONDecodeError", ["x"], {"msg": "m", "doc": [], "pos": 0, "lineno": 1, "colno": 1}),
        ("pyisolate:ExtensionDied", ["x"], {"pid": "1"}),
        ("pyisolate:ExtensionDied", ["x"], {"returncode": []}),
        ("ExceptionGroup", ["m", [1]], {}),
        ("ExceptionGroup", [[], []], {}),
    ],
    ids=str,
)
def test_fields_of_another_type(name: str, args: list[Any], attributes: dict[str, Any]) -> None:
    got = exception(name, args=args, attributes=attributes)
    assert isinstance(got, RemoteError)
    assert got.type_name == name.replace(":", ".") if ":" in name else f"builtins.{name}"
    shown(got)


@pytest.mark.parametrize(
    ("name", "args", "attributes"),
    [
        ("SyntaxError", ["x", ["f", 1, 1 << 40, "x" * 20_000, 1, -5]], {}),
        ("SyntaxError", ["x"], {"lineno": -1, "offset": 0, "end_lineno": None, "text": "\ta\n"}),
        ("OSError", [2, "No such file", "a.txt", None, "b.txt"], {}),
        ("OSError", [2, "x", 5], {}),
        ("BlockingIOError", [11, "x", 7], {"characters_written": "many"}),
        ("ImportError", ["x"], {"name": "n", "path": "p"}),
        ("AttributeError", ["x"], {"name": "n", "obj": 5}),
        ("NameError", ["name 'prin' is not defined"], {"name": "prin"}),
        ("KeyError", ["key"], {}),
        ("ValueError", ["x", [1, {"a": b"b"}]], {"args": ["y"], "value": 3}),
    ],
    ids=str,
)
def test_fields_that_may_be_so(name: str, args: list[Any], attributes: dict[str, Any]) -> None:
    got = exception(name, args=args, attributes=attributes)
    assert type(got).__module__ == "builtins"
    assert not isinstance(got, RemoteError)
    assert len(shown(got)) < 60_000


def test_nobody_looks_through_an_object_for_names_like_the_missing_one() -> None:
    assert exception("AttributeError", args=["x"], attributes={"name": "a", "obj": [1]}).obj is None


class Own(Exception):
    """The text needs an attribute."""

    def __str__(self) -> str:
        return f"code {self.code:d}: {self.hint}"  # type: ignore[attr-defined]


class Bad(OSError):
    @property
    def errno(self) -> int:  # type: ignore[override]
        raise RuntimeError("no errno")

    def __repr__(self) -> str:
        return "<" + self.args[0] + ">"


class Made(Exception):
    def __new__(cls, *args: Any) -> Any:
        if not args or args[0] != 1:
            raise RuntimeError("only 1")
        return super().__new__(cls, *args)


@pytest.mark.parametrize(
    ("cls", "args", "attributes", "good"),
    [
        (Own, [], {"code": 5, "hint": "h"}, True),
        (Own, [], {"code": "5", "hint": "h"}, False),
        (Own, [], {}, False),
        (Bad, ["x"], {}, True),
        (Bad, [1], {}, False),
        (Bad, ["x"], {"errno": []}, False),
        (Made, [1], {}, True),
        (Made, [2], {}, False),
        (Made, [], {}, False),
    ],
    ids=str,
)
def test_classes_whose_code_fails(cls: Any, args: list[Any], attributes: dict[str, Any], good: bool) -> None:
    registry = _core.Registry()
    body = ext("exception", {"type": registry.register(cls), "args": args, "attributes": attributes})
    got = _core._decode(body, registry)
    assert isinstance(got, cls if good else RemoteError)
    str(got), repr(got), traceback.format_exception(got)


def test_arguments_without_text() -> None:
    """Python refuses str() of a number with more than 4300 digits."""
    large = msgpack.ExtType(EXT["bigint"], b"\x01" * 5000)
    for args in ([large], [1, [large]], [{"a": [large]}]):
        got = exception("ValueError", args=args, notes=[large], attributes={"a": large})
        assert "<an integer of 5000 bytes>" in shown(got)
    assert (
        exception("ValueError", args=[msgpack.ExtType(EXT["bigint"], b"\x01" * 500)]).args[0].bit_length()
        > 3000
    )


def test_a_name_is_not_looked_for_when_it_is_pickled() -> None:
    """Pickle imports the module of a class, and the peer has chosen its name."""
    got = exception("this:Zen", args=["x", 1], attributes={"code": 5})
    again = pickle.loads(pickle.dumps(got))
    assert "this" not in sys.modules
    assert (type(again), again.args, again.code, again.type_name) == (type(got), ("x", 1), 5, "this.Zen")
    assert pickle.loads(pickle.dumps(RemoteError("x"))).args == ("x",)


def test_what_a_remote_error_says_of_its_class() -> None:
    got = exception(
        "m:E", args=["x"], attributes={"type_name": "builtins.ValueError", "args": [1], "with_traceback": 2}
    )
    assert (got.type_name, got.args) == ("m.E", ("x",))
    assert got.with_traceback(None) is got


def test_long_names_of_attributes_are_left_out() -> None:
    """They would live as long as the class."""
    got = exception("m:E", attributes={"x" * 201: 1, "x" * 200: 2})
    assert list(vars(got).values()) == [2]


# ---- text ----


@pytest.mark.parametrize(
    ("name", "args", "attributes"),
    [
        ("ValueError", [ESCAPES], {}),
        ("m:E", [ESCAPES], {}),
        ("OSError", [2, ESCAPES, ESCAPES], {}),
        ("SyntaxError", [ESCAPES, [ESCAPES, 1, 1, ESCAPES]], {}),
        ("SyntaxError", [ESCAPES], {"text": ESCAPES, "filename": ESCAPES, "lineno": 1}),
        ("ImportError", [ESCAPES], {"name": ESCAPES}),
        ("NameError", [ESCAPES], {"name": ESCAPES}),
        ("KeyError", [ESCAPES], {}),
        ("UnicodeDecodeError", [ESCAPES, b"x", 0, 1, ESCAPES], {}),
        ("UnicodeEncodeError", [ESCAPES, ESCAPES, 0, 1, ESCAPES], {}),
        ("ValueError", [ESCAPES, ESCAPES], {}),
        (
            "subprocess:CalledProcessError",
            [1, "x"],
            {"returncode": 1, "cmd": ESCAPES, "output": None, "stderr": None},
        ),
        (f"m{ESCAPES}:E{ESCAPES}", ["x"], {}),
        (
            "ExceptionGroup",
            [
                ESCAPES,
                [
                    msgpack.ExtType(
                        EXT["exception"], msgpack.packb({"type": "builtins:ValueError", "args": [ESCAPES]})
                    )
                ],
            ],
            {},
        ),
    ],
    ids=lambda it: ascii(it)[:30],
)
def test_text_controls_no_terminal(name: str, args: list[Any], attributes: dict[str, Any]) -> None:
    if name == "ExceptionGroup" and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no exception groups")
    text = shown(exception(name, args=args, attributes=attributes, notes=[ESCAPES]))
    assert not set(text) & set(ESCAPES) - {"[", *map(chr, range(32, 127))}


def test_lines_of_a_text_stay() -> None:
    assert exception("ValueError", args=["a\n\tb\x1b[0m"]).args == ("a\n\tb\\x1b[0m",)
    assert exception("KeyError", args=["a\x1b"]).args == ("a\x1b",), "it is shown by its repr"
    assert exception("ValueError", args=["\U0001f468\u200d\U0001f469 caf\u00e9\u00a0\u3000\u5b57"]).args == (
        "\U0001f468\u200d\U0001f469 caf\u00e9\u00a0\u3000\u5b57",
    )


class Colourful(Exception):
    def __str__(self) -> str:
        return self.hint + str(self.args[1])  # type: ignore[attr-defined,no-any-return]


def test_text_of_a_class_s_own() -> None:
    registry = _core.Registry()
    name = registry.register(Colourful)
    body = ext("exception", {"type": name, "args": [1, "b\x1b[1m"], "attributes": {"hint": "a\x1b[0m\n"}})
    assert str(_core._decode(body, registry)) == "a\\x1b[0m\nb\\x1b[1m"


def test_lone_surrogates_can_be_written() -> None:
    text = msgpack.ExtType(EXT["str"], "a\ud800".encode("utf-8", "surrogatepass"))
    got = exception("ValueError", args=[text], notes=[text], traceback=[[text, 1, text, text]])
    assert "\\ud800" in shown(got).encode().decode()


# ---- frames ----

FORGED = 'x"\n  File "/host/main.py", line 7, in main\n    password = "hunter2"\nValueError: no'


def frames(*entries: list[Any]) -> Any:
    return exception("ValueError", args=["x"], traceback=list(entries))


def remote_files() -> list[str]:
    """Exceptions of this file's tests; other tests may keep their own."""
    gc.collect()
    return [
        name
        for name in linecache.cache
        if name.startswith(("<remote f.py", "<remote g.py", "<remote plugin.py"))
    ]


@pytest.mark.parametrize("part", [0, 2, 3], ids=["file", "function", "source"])
@pytest.mark.parametrize("text", [FORGED, ESCAPES, "\0", "\r\n"], ids=ascii)
def test_no_frame_is_forged(part: int, text: str) -> None:
    entry: list[Any] = ["f.py", 3, "run", "call()"]
    entry[part] = text
    got = frames(entry, ["g.py", 4, "leaf", "fail()"])
    lines = "".join(traceback.format_exception(got)).split("\n")
    assert len(lines) == 7, "a heading, two frames of two lines, the error, the end of the last line"
    assert lines[3].startswith('  File "<remote g.py>", line 4, in leaf')
    assert not set("".join(lines)) & set(ESCAPES) - {"[", *map(chr, range(32, 127))}


def test_names_are_cut() -> None:
    got = frames(["/a" * 2_000_000 + "/x.py", 1, "f" * 2_000_000, "s" * 2_000_000])
    [shown_frame] = traceback.extract_tb(got.__traceback__)
    assert len(shown_frame.filename) < 500
    assert shown_frame.filename.endswith("/a/x.py>")
    assert shown_frame.filename.startswith("<remote ...")
    assert len(shown_frame.name) < 300
    assert len(str(shown_frame.line)) < 400


def test_characters_are_not_cut_in_two() -> None:
    for character in ("\u00e4", "\u5b57", "\U0001f600"):
        for extra in ("", "a", "aa", "aaa"):
            [shown_frame] = traceback.extract_tb(
                frames([extra + character * 5000] * 1 + [1, extra + character * 5000, "s"]).__traceback__
            )
            assert set(shown_frame.filename) <= set(character + "<remote ...>a")
            assert set(shown_frame.name) <= set(character + "...a")


def test_lines_go_with_the_exception() -> None:
    assert remote_files() == []
    got = frames(["f.py", 99_999, "g", "one()"], ["f.py", 2, "g", "two()"])
    other = frames(["f.py", 2, "g", "two()"])
    assert [frame.line for frame in traceback.extract_tb(got.__traceback__)] == ["one()", "two()"]
    [name] = remote_files()
    assert len(linecache.cache[name][2]) == 99_999  # type: ignore[misc]
    assert linecache.getline(name, 3) == "\n"
    assert linecache.getline(name, 200_000) == ""
    del got
    assert linecache.getline("<remote f.py>", 2) == "two()\n"
    assert linecache.getline("<remote f.py>", 99_999) == "\n"
    del other
    assert remote_files() == []


def test_a_later_exception_changes_no_earlier_one() -> None:
    first = frames(["plugin.py", 5, "run", "charge(1)"])
    bare = frames(["plugin.py", 6, "run", ""])
    forged = frames(["plugin.py", 5, "run", "charge(1000)"], ["plugin.py", 6, "run", "steal()"])
    text = "".join(traceback.format_exception(first))
    assert "charge(1)\n" in text
    assert '"<remote plugin.py>"' in text
    assert "steal" not in "".join(traceback.format_exception(bare))
    text = "".join(traceback.format_exception(forged))
    assert text.count('"<remote plugin.py (2)>"') == 2
    assert "charge(1000)\n" in text
    many = [frames(["plugin.py", 5, "run", f"charge({i})"]) for i in range(20)]
    assert "charge" in "".join(traceback.format_exception(many[0]))
    assert '"<remote plugin.py (9)>", line 5, in run\nValueError' in "".join(
        traceback.format_exception(many[-1])
    )
    del first, bare, forged, many
    assert remote_files() == []


def test_the_cache_may_be_cleared() -> None:
    got = frames(["f.py", 1, "g", "one()"])
    linecache.clearcache()
    assert "one()" not in "".join(traceback.format_exception(got))
    again = frames(["f.py", 1, "g", "one()"])
    assert "one()" in "".join(traceback.format_exception(again))
    linecache.checkcache()
    assert "one()" in "".join(traceback.format_exception(again))
    linecache.cache["<remote g.py>"] = (1, None, ["theirs\n"], "g.py")
    other = frames(["g.py", 1, "g", "one()"])
    del got, again, other
    assert remote_files() == ["<remote g.py>"], "what is not ours stays"
    linecache.clearcache()


KEPT = """
import sys, traceback
sys.path[:0] = {path!r}
from conversion import decode, ext
import msgpack
from pyisolate import _core

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

class Own(Exception):
    pass

registry = _core.Registry()
name = registry.register(Own)

def turn(i):
    long = f"{{i}}-" + "x" * 200_000
    for type_name, attributes in (
        ("builtins:ValueError", {{}}), (name, {{long: 1, "a": long}}), ("m:" + long[:900], {{long: long}})
    ):
        fields = {{"type": type_name, "args": [long], "notes": [long], "attributes": attributes}}
        fields["traceback"] = [[f"{{j}}{{long}}", 1 + j, long, long] for j in range(20)]
        error = _core._decode(ext("exception", fields), registry)
        traceback.format_exception(error)

for i in range(20):
    turn(i)
before = memory()
for i in range(20, 150):
    turn(i)
print(memory() - before)
"""


def test_nothing_is_kept(tmp_path: Path) -> None:
    code = KEPT.format(path=[str(paths.HELPERS), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 20, "of five gigabytes that went through"


# ---- chains ----


def chained(depth: int, **more: Any) -> Any:
    fields: dict[str, Any] = {"type": "builtins:ValueError", "args": [0]}
    for i in range(1, depth):
        inner = msgpack.ExtType(EXT["exception"], msgpack.packb(fields))
        fields = {"type": "builtins:ValueError", "args": [i], "cause": inner, **more}
    return fields


@pytest.mark.parametrize("more", [{}, {"context": True}, {"suppress": True, "context": True}], ids=str)
def test_long_chains(more: Any) -> None:
    got = decode(ext("exception", chained(100, **more)))
    assert shown(got).count("\nValueError: ") == 99
    with pytest.raises(_core.ProtocolError, match="too deeply"):
        decode(ext("exception", chained(2000)))


def test_chains_of_many_branches() -> None:
    """Each exception has its own cause and context, so the message is as long as the printed text."""

    def tree(depth: int) -> Any:
        links = {
            key: msgpack.ExtType(EXT["exception"], msgpack.packb(tree(depth - 1)))
            for key in ("cause", "context")
            if depth
        }
        return {"type": "builtins:ValueError", "args": [depth], **links}

    shown(decode(ext("exception", tree(8))))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups")
def test_groups_in_groups() -> None:
    fields: dict[str, Any] = {"type": "builtins:ValueError", "args": ["x"]}
    for i in range(60):
        inner = msgpack.ExtType(EXT["exception"], msgpack.packb(fields))
        fields = {
            "type": "builtins:ExceptionGroup",
            "args": [f"g{i}", [inner, inner]] if i < 3 else [f"g{i}", [inner]],
        }
    got = decode(ext("exception", fields))
    str(got), repr(got), traceback.format_exception(got)
    copy.copy(got)


# ---- all of it, at random ----


@pytest.mark.parametrize("seed", range(4))
def test_at_random(seed: int, tmp_path: Path) -> None:
    program = paths.HELPERS / "hostile_values.py"
    done = subprocess.run(
        [sys.executable, program, str(seed), "2500"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "done\n"
