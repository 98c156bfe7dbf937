"""Exceptions keep type, arguments, notes, chain and traceback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import errno
import gc
import json
import linecache
import logging
import pickle
import subprocess
import sys
import traceback
import urllib.error
import zlib
from email.message import Message
from typing import Any

import pytest
from conversion import decode, ext, throw

from pyisolate import _core


def raised(error: BaseException) -> BaseException:
    """The same error with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


class PluginError(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        ValueError(),
        ValueError(""),
        ValueError(1, "two", [3.0], (None,)),
        KeyError("key"),
        IndexError("list index out of range"),
        ZeroDivisionError("division by zero"),
        UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte"),
        UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"),
        SyntaxError("invalid syntax", ("f.py", 3, 7, "a = = b\n")),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        RecursionError("too deep"),
        asyncio.CancelledError("why"),
        asyncio.TimeoutError(),
        concurrent.futures.CancelledError(),
        concurrent.futures.TimeoutError("late"),
        subprocess.CalledProcessError(2, ["false"], b"out", b"err"),
        subprocess.TimeoutExpired(["sleep"], 1.5),
    ],
    ids=repr,
)
def test_known_exceptions_keep_type_and_arguments(error: Any) -> None:
    got = throw(raised(error))
    assert type(got) is type(error)
    assert got.args == error.args
    assert str(got) == str(error)
    assert vars(got) == vars(error)


def test_fields_of_os_error() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file", "a.txt", None, "b.txt")
    got = throw(error)
    assert type(got) is FileNotFoundError
    assert (got.errno, got.strerror, got.filename, got.filename2) == (
        errno.ENOENT,
        "No such file",
        "a.txt",
        "b.txt",
    )
    assert str(got) == str(error)
    assert type(throw(OSError(errno.ECONNRESET, "reset"))) is ConnectionResetError


def test_fields_of_import_and_name_errors() -> None:
    got = throw(ModuleNotFoundError("No module named 'x'", name="x", path="/p"))
    assert (type(got), got.name, got.path) == (ModuleNotFoundError, "x", "/p")  # type: ignore[attr-defined]
    for error in (NameError("n", name="x"), AttributeError("n", name="x", obj=object())):
        assert throw(error).name == "x"  # type: ignore[attr-defined]


def test_fields_of_json_errors() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{"a": }')
    got: Any = throw(caught.value)
    assert type(got) is json.JSONDecodeError
    assert (got.pos, got.lineno, got.doc, str(got)) == (6, 1, '{"a": }', str(caught.value))


@pytest.mark.parametrize("error", [StopIteration(5), StopAsyncIteration(5)], ids=repr)
def test_stop_iteration_is_wrapped(error: BaseException) -> None:
    """`await` cannot raise it: a coroutine that does so raises RuntimeError."""
    got = throw(error)
    assert type(got) is RuntimeError
    assert type(got.__cause__) is type(error)
    assert got.__cause__.args == (5,)


def test_registered_class() -> None:
    error = PluginError(7, hint="try again")
    got: Any = throw(error, PluginError)
    assert type(got) is PluginError
    assert (got.args, got.code, got.hint) == (("code 7",), 7, "try again")


def test_class_that_is_not_registered_here() -> None:
    got: Any = throw(PluginError(7, hint="x"))
    assert isinstance(got, _core.RemoteError)
    assert (type(got).__name__, type(got).__module__) == ("PluginError", __name__)
    assert got.type_name == f"{__name__}.PluginError"
    assert (str(got), got.code) == ("code 7", 7)
    assert type(throw(PluginError(8, hint="y"))) is type(got), "one class for each name"
    assert traceback.format_exception_only(type(got), got) == [f"{__name__}.PluginError: code 7\n"]


def test_arguments_that_cannot_cross_arrive_as_text() -> None:
    got = throw(ValueError("x", object, [1, len]))
    assert got.args == ("x", "<class 'object'>", "[1, <built-in function len>]")
    assert type(throw(Unprintable())).__name__ == "Unprintable"
    assert throw(ValueError(Unprintable("x"))).args


def test_notes() -> None:
    error = ValueError("x")
    error.__notes__ = ["one", "two"]  # type: ignore[attr-defined]
    assert throw(error).__notes__ == ["one", "two"]  # type: ignore[attr-defined]
    assert not hasattr(throw(ValueError("x")), "__notes__")


def test_cause_and_context() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as second:
        got = throw(second)
    assert type(got.__cause__) is KeyError
    assert got.__context__ is got.__cause__
    assert got.__suppress_context__
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904
    except ValueError as second:
        got = throw(second)
    assert got.__cause__ is None
    assert type(got.__context__) is KeyError
    assert not got.__suppress_context__
    quiet = ValueError("x")
    quiet.__context__, quiet.__suppress_context__ = KeyError("hidden"), True
    assert throw(quiet).__suppress_context__


def chain(length: int, *, cause: bool, context: bool, shared: bool = True) -> BaseException:
    error: BaseException = ValueError(0)
    for i in range(1, length):
        following = ValueError(i)
        if cause:
            following.__cause__ = error
        if context:
            following.__context__ = error if shared else ValueError(-i)
            following.__context__.__context__ = error if not shared else following.__context__.__context__
        error = following
    return error


@pytest.mark.parametrize("shared", [True, False])
def test_long_chains_are_cut_and_stay_small(shared: bool) -> None:
    """With both a cause and a context for each, a naive walk would write 2**n exceptions."""
    error = chain(500, cause=True, context=True, shared=shared)
    assert len(_core._encode(error, _core.Registry(), True)) < 20_000
    got: BaseException | None = throw(error)
    numbers = []
    while got is not None:
        numbers.append(got.args[0])
        got = got.__cause__
    assert numbers == list(range(499, 499 - len(numbers), -1))
    assert len(numbers) > 10


def test_context_that_contains_itself() -> None:
    a, b = ValueError("a"), ValueError("b")
    a.__context__, b.__context__ = b, a
    assert throw(a).args == ("a",)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups")
def test_groups() -> None:
    inner = ExceptionGroup("h", [raised(TypeError("t")), PluginError(1, hint="")])  # noqa: F821
    group = ExceptionGroup("g", [ValueError(1), inner])  # noqa: F821
    got: Any = throw(group, PluginError)
    assert type(got) is ExceptionGroup  # noqa: F821
    assert (got.message, len(got.exceptions), got.exceptions[0].args) == ("g", 2, (1,))
    assert [type(e) for e in got.exceptions[1].exceptions] == [TypeError, PluginError]
    assert got.exceptions[1].exceptions[0].__traceback__ is not None
    base: Any = throw(BaseExceptionGroup("b", [KeyboardInterrupt()]))  # noqa: F821
    assert type(base) is BaseExceptionGroup  # noqa: F821
    assert type(base.exceptions[0]) is KeyboardInterrupt


def exception(name: str, **fields: Any) -> Any:
    """An exception as a hostile peer may write it."""
    return decode(ext("exception", {"type": f"builtins:{name}", **fields}))


def test_attributes_do_not_replace_methods() -> None:
    methods = [name for name in ("with_traceback", "add_note") if hasattr(ValueError, name)]  # 3.10: one
    got = exception("ValueError", attributes={**dict.fromkeys(methods, 1), "mine": 3})
    assert vars(got) == {"mine": 3}
    assert got.with_traceback(None) is got


def test_printing_imports_nothing() -> None:
    """Python 3.12 imports the module that an ImportError names, to suggest a similar name."""
    got = exception("ImportError", args=["x"], attributes={"name": "this", "name_from": "zenn"})
    assert getattr(got, "name_from", None) is None
    assert "ImportError: x" in "".join(traceback.format_exception(got))
    assert "this" not in sys.modules


@pytest.mark.parametrize("attributes", [{}, {"end_offset": 1 << 40, "text": "x"}, {"text": 5, "lineno": "x"}])
def test_printing_a_syntax_error_takes_no_memory(attributes: Any) -> None:
    got = exception("SyntaxError", args=["x", ["f", 1, 1, "x", 1, 1 << 34]], attributes=attributes)
    assert len("".join(traceback.format_exception(got))) < 1000
    text = ["x", ["f", 1, 1, "x" * 1000, 1, 1 << 34]]
    assert len("".join(traceback.format_exception(exception("SyntaxError", args=text)))) < 5000


# ---- tracebacks


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    raise ValueError("deep")  # the line in the traceback


def failed(depth: int = 0) -> BaseException:
    try:
        recurse(depth)
    except ValueError as error:
        return error
    raise AssertionError


def frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def test_traceback_shows_remote_frames_and_source() -> None:
    error = failed()
    got = throw(error)
    expected, shown = frames(error), frames(got)
    assert [f.filename for f in shown] == [f"<remote {f.filename}>" for f in expected]
    assert [(f.name, f.lineno, f.line) for f in shown] == [(f.name, f.lineno, f.line) for f in expected]
    assert shown[-1].line == 'raise ValueError("deep")  # the line in the traceback'


def test_logging_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    got = throw(failed())
    try:
        raise got
    except ValueError:
        logging.getLogger("test").exception("failed")
    assert "in recurse\n    raise ValueError" in caplog.text
    assert "<remote " in caplog.text


def test_printers_may_take_slices_of_the_source() -> None:
    got = throw(failed())
    frame = frames(got)[-1]
    lines: Any = linecache.cache[frame.filename][2]  # type: ignore[index]
    assert frame.lineno is not None
    assert lines[frame.lineno - 1 : frame.lineno] == [lines[frame.lineno - 1]] == [f"{frame.line}\n"]
    assert lines[-1] == lines[len(lines) - 1]
    assert lines[: len(lines) + 5] == list(lines)
    assert lines[5:2] == []


def test_traceback_is_marked_once_when_it_is_passed_on() -> None:
    assert all(f.filename.count("<remote") == 1 for f in frames(throw(throw(failed()))))


def test_the_innermost_frames_of_a_deep_traceback() -> None:
    shown = frames(throw(failed(200)))
    assert len(shown) == 64
    assert shown[-1].line == 'raise ValueError("deep")  # the line in the traceback'


def test_raising_adds_the_frames_of_this_side_in_front() -> None:
    got = throw(failed())
    with pytest.raises(ValueError, match="deep") as caught:
        raise got
    shown = frames(caught.value)
    assert shown[0].name == "test_raising_adds_the_frames_of_this_side_in_front"
    assert shown[-1].name == "recurse"


CLASH = """
from pyisolate import _core
raise _core._decode({body!r}, _core.Registry())
"""


def peers_error(traceback: Any) -> bytes:
    return ext("exception", {"type": "builtins:ValueError", "args": ["x"], "traceback": traceback})


def test_files_of_this_side_are_never_shown(tmp_path: Any) -> None:
    """The traceback printer searches files by their base name, and the peer chooses the name."""
    (tmp_path / "secret.py").write_text("KEY = 'hunter2'\n")
    for name in ("/plugin/secret.py", "secret.py", str(tmp_path / "secret.py")):
        (tmp_path / "main.py").write_text(CLASH.format(body=peers_error([[name, 1, "f", "theirs"]])))
        done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True)
        assert f'File "<remote {name}>", line 1, in f' in done.stderr
        assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "frames",
    [
        None,
        1,
        [1, "x", [], [1, 2, 3, 4]],
        [["f", "line", "g", "s"]],
        [["f", -5, "g", "s"], ["f", 2**60, "g", "s"], ["f", 2**31, "g", "s"]],
        [["a\0b", 1, "g\0", "s\0"]],
        [["f", 1, "g", "s"]] * 1000,
    ],
    ids=["none", "number", "items", "line", "lines", "nul", "many"],
)
def test_malformed_tracebacks_do_no_harm(frames: Any) -> None:
    got = decode(peers_error(frames))
    assert got.args == ("x",)
    assert len(traceback.extract_tb(got.__traceback__)) <= 64


# ---- what a peer may make up


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "a:",
        ":b",
        "os:system",
        "builtins:eval",
        "builtins:int",
        "builtins:nothing",
        "json.decoder:JSONDecoder",
        "subprocess:Popen",
        "ä:ö",
        "a:b:c",
        "pyisolate:Nothing",
    ],
)
def test_other_names_are_remote_errors(name: str) -> None:
    got = decode(ext("exception", {"type": name, "args": ["x"]}))
    assert isinstance(got, _core.RemoteError)
    assert got.args == ("x",)


def test_nothing_is_imported() -> None:
    assert "this" not in sys.modules
    decode(ext("exception", {"type": "this:Zen", "args": []}))
    assert "this" not in sys.modules


def test_arguments_that_the_class_does_not_take() -> None:
    for name, args in (
        ("UnicodeDecodeError", [1]),
        ("OSError", []),
        ("SyntaxError", ["x", 1]),
        ("ExceptionGroup", [1]),
    ):
        got = decode(ext("exception", {"type": f"builtins:{name}", "args": args}))
        assert list(got.args) == args
        str(got), repr(got)


def test_made_up_classes_do_not_pile_up() -> None:
    kept = decode(ext("exception", {"type": "m:Kept", "args": []}))
    for i in range(1000):
        decode(ext("exception", {"type": f"m:E{i}", "args": []}))
    gc.collect()
    assert len(_core.RemoteError.__subclasses__()) < 600
    assert type(kept).__name__ == "Kept"


def test_attributes_that_would_change_the_error() -> None:
    got = decode(
        ext(
            "exception",
            {
                "type": "builtins:ValueError",
                "args": ["x"],
                "attributes": {"__class__": 1, "__dict__": 2, "_x": 3, "": 4, "ok": 5},
            },
        )
    )
    assert type(got) is ValueError
    assert "_x" not in vars(got)
    assert got.ok == 5


# ---- the text is that of str(error) on the sender's side ----


class Detailed(Exception):
    """Its text is made of attributes, and it has no arguments."""

    def __init__(self, name: str, request: object) -> None:
        self.name, self.request = name, request

    def __str__(self) -> str:
        return f"{self.name}, as {type(self.request).__name__} says"


class Key(KeyError):
    pass


class Connection(OSError):
    def __init__(self, host: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.host = host

    def __str__(self) -> str:
        return f"cannot connect to {self.host}: {self.strerror}"


class Silent(Exception):
    def __str__(self) -> str:
        return ""


class Raising(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Text(str):
    def __str__(self) -> str:
        return "another"


class Odd(Exception):
    def __str__(self) -> str:
        return Text("stored")


def texts() -> list[BaseException]:
    refused = OSError(errno.ECONNREFUSED, "refused")
    made = [Detailed("x", object()), Key("x"), Key(), Connection("h", refused), Silent("args"), Odd()]
    return [*made, urllib.error.HTTPError("http://u", 404, "nothing there", Message(), None), zlib.error("z")]


@pytest.mark.parametrize("error", texts(), ids=lambda error: type(error).__name__)
def test_the_text_is_the_senders(error: BaseException) -> None:
    got = throw(error)
    assert isinstance(got, _core.RemoteError)
    assert str(got) == str(error)
    assert traceback.format_exception_only(got)[0].rstrip().endswith(str(error).rstrip())
    for copied in (throw(got), copy.copy(got), pickle.loads(pickle.dumps(got))):
        assert str(copied) == str(error)
        assert copied.args == got.args


def test_the_text_of_a_registered_class_is_its_own() -> None:
    assert str(throw(Detailed("x", "text"), Detailed)) == "x, as str says"
    got = throw(Connection("h", OSError(1, "why")), Connection)
    assert (type(got), str(got)) == (Connection, "cannot connect to h: why")


def test_a_class_that_has_no_text_shows_its_arguments() -> None:
    assert str(throw(Raising(5))) == "5"


def test_a_registered_class_without_a_text_here_has_the_senders() -> None:
    class Picky(Exception):
        def __str__(self) -> str:
            return f"code {self.code:d}"  # type: ignore[attr-defined]

    error = Picky()
    error.code = True  # type: ignore[attr-defined]
    body = _core._encode(error, registry_with(Picky), True)
    assert str(_core._decode(body, registry_with(Picky))) == "code 1"
    Picky.__str__ = Raising.__str__  # type: ignore[method-assign]
    got = _core._decode(body, registry_with(Picky))
    assert isinstance(got, _core.RemoteError)
    assert str(got) == "code 1"


def registry_with(cls: type) -> _core.Registry:
    registry = _core.Registry()
    registry.register(cls)
    return registry


@pytest.mark.parametrize("text", [None, 5, [], {"a": 1}, b"x"])
def test_a_text_that_is_no_text_is_ignored(text: object) -> None:
    got = decode(ext("exception", {"type": "m:E", "args": ["x"], "text": text}))
    assert str(got) == "x"


def test_a_text_is_printable() -> None:
    got = decode(ext("exception", {"type": "m:E", "args": [], "text": "red \x1b[31m\nblue \u202e"}))
    assert str(got) == "red \\x1b[31m\nblue \\u202e"
    assert str(decode(ext("exception", {"type": "builtins:ValueError", "args": ["x"], "text": "y"}))) == "x"
