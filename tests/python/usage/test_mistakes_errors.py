"""Errors of extensions with a remedy: debuggers, input, variables, files, crashes, limits."""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from internals import NAMESPACES, leave_out

from pyisolate import ExtensionDied, SandboxMode

Plugin = Callable[..., Any]

PLUGIN = """
import asyncio, ctypes, os, sqlite3, sys, threading
from pyisolate import ExtensionBase

def descend(depth):
    if depth == 0:
        ctypes.string_at(0)
    descend(depth - 1)

class E(ExtensionBase):
    def run(self, code):
        exec(code, globals())

    async def arun(self, code):
        await asyncio.sleep(0)
        exec(code, globals())
"""

needs_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
BOTH = pytest.mark.parametrize("mode", list(SandboxMode), ids=["confined", "open"])


def failure(extension: Any, code: str, name: str = "run") -> tuple[BaseException, str]:
    """Return the error of this code with its notes."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        getattr(extension.sync, name)(code)
    return caught.value, "\n".join(getattr(caught.value, "__notes__", ()))


# ---- terminals ----


@BOTH
@pytest.mark.parametrize("name", ["run", "arun"])
def test_breakpoints_say_how_to_debug(plugin: Plugin, mode: SandboxMode, name: str) -> None:
    error, _ = failure(plugin(PLUGIN, sandbox_mode=mode), "breakpoint()", name)
    assert type(error) is RuntimeError
    assert "breakpoint() cannot be used here" in str(error)
    assert "'isolated': False" in str(error)


def test_breakpoints_at_import(plugin: Plugin) -> None:
    extension = plugin("breakpoint()\n" + PLUGIN)
    with pytest.raises(RuntimeError, match="'isolated': False"):
        extension.ensure_process_started()


def test_a_debugger_that_is_named_is_used(plugin: Plugin) -> None:
    source = PLUGIN + "    def hook(self):\n        breakpoint()\n        return 'went on'\n"
    assert plugin(source, env={"PYTHONBREAKPOINT": "0"}).sync.hook() == "went on"
    other = plugin(source, name="other", env={"PYTHONBREAKPOINT": "os.getpid"})
    assert other.sync.hook() == "went on"


def test_breakpoints_work_in_the_host(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: reached.append(True))
    plugin(PLUGIN, isolated=False).sync.run("breakpoint()")
    assert reached == [True]


@needs_notes
@BOTH
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("input('? ')", EOFError),
        ("import pdb; pdb.set_trace()\nx = 1", None),
        ("import getpass; getpass.getpass()", EOFError),
        ("try:\n    input()\nexcept EOFError as error:\n    raise ValueError('no answer')", ValueError),
    ],
    ids=["input", "pdb", "getpass", "chained"],
)
def test_who_asks_is_told(plugin: Plugin, mode: SandboxMode, code: str, error: Any) -> None:
    found, notes = failure(plugin(PLUGIN, sandbox_mode=mode), code)
    assert error is None or type(found) is error
    assert "no terminal" in notes
    assert "'isolated': False" in notes


@needs_notes
def test_other_ends_of_files_are_not_explained(plugin: Plugin) -> None:
    found, notes = failure(plugin(PLUGIN), "raise EOFError('the archive is cut')")
    assert (type(found), notes) == (EOFError, "")


# ---- variables, modules ----


@needs_notes
@pytest.mark.parametrize("code", ["os.environ['API_KEY']", "os.environ.pop('API_KEY')"])
def test_a_missing_variable_names_its_key(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    found, notes = failure(plugin(PLUGIN), code)
    assert type(found) is KeyError
    assert "\"env\": {'API_KEY': ...}" in notes
    given = plugin(PLUGIN, name="given", env={"API_KEY": "known"})
    assert given.sync.run(code) is None


@needs_notes
def test_other_missing_keys_are_not_explained(plugin: Plugin) -> None:
    assert failure(plugin(PLUGIN), "{}['API_KEY']")[1] == ""
    extension = plugin(PLUGIN, name="open", sandbox_mode=SandboxMode.DISABLED)
    assert failure(extension, "os.environ['SURELY_NOT_SET']")[1] == "", "it sees all of them"


@needs_notes
def test_the_main_program_is_not_there(plugin: Plugin) -> None:
    extension = plugin("from __main__ import Settings")
    with pytest.raises(ImportError) as caught:
        extension.ensure_process_started()
    assert "not '__main__': put what both use into a module" in "\n".join(caught.value.__notes__)


# ---- files ----


@needs_notes
@pytest.mark.parametrize(
    "code",
    [
        "sqlite3.connect('{file}').execute('select * from t')",
        "sqlite3.connect('file:{file}?mode=rw', uri=True).execute('create table a (b)')",
        "raise type('LibraryError', (Exception,), {{}})('cannot open {file}: Permission denied')",
        "raise type('LibraryError', (Exception,), {{}})('cannot write {file}: Read-only file system')",
    ],
)
def test_libraries_that_say_it_in_words(plugin: Plugin, tmp_path: Path, code: str) -> None:
    file = tmp_path / "app.db"
    sqlite3.connect(file).execute("create table t (x)").connection.close()
    _, notes = failure(plugin(PLUGIN), code.format(file=file))
    assert "under 'sandbox'" in notes
    assert "'writable_paths'" in notes


@needs_notes
def test_a_readonly_database(plugin: Plugin, tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    sqlite3.connect(file).execute("create table t (x)").connection.close()
    extension = plugin(PLUGIN, sandbox={"readonly_paths": [str(tmp_path)]})
    found, notes = failure(extension, f"sqlite3.connect('{file}').execute('create table a (b)')")
    assert type(found).__name__.endswith("OperationalError")
    assert "'writable_paths'" in notes


@needs_notes
@pytest.mark.parametrize("key", ["writable_paths", "readonly_paths"])
def test_a_permitted_path_that_was_not_there(plugin: Plugin, tmp_path: Path, key: str, caplog: Any) -> None:
    folder = tmp_path / "models"
    extension = plugin(PLUGIN, sandbox={key: [str(folder)]})
    found, notes = failure(extension, f"open('{folder}/x')")
    assert type(found) is FileNotFoundError
    assert f"{str(folder)!r} in {key!r} must exist when the extension is started" in notes
    assert f"{folder} under {key!r} does not exist" in caplog.text


# ---- crashes ----


@pytest.mark.parametrize(
    ("code", "fault"),
    [("ctypes.string_at(0)", "Segmentation fault"), ("os.abort()", "Aborted")],
    ids=["SIGSEGV", "SIGABRT"],
)
@pytest.mark.parametrize("method", ["auto", "exec"])
def test_a_crash_tells_where(plugin: Plugin, code: str, fault: str, method: str) -> None:
    extension = plugin(PLUGIN, start_method=method)
    error, _ = failure(extension, f"sys.stderr = None\n{code}")
    assert type(error) is ExtensionDied
    assert f"Fatal Python error: {fault}" in str(error)
    assert 'plugin/__init__.py", line 12 in run' in str(error)
    assert "in run" in error.stderr


def test_the_innermost_frames_are_shown(plugin: Plugin) -> None:
    error, _ = failure(
        plugin(PLUGIN), "import numpy.random\nprint('x' * 100_000, file=sys.stderr)\ndescend(300)"
    )
    text = str(error)
    assert "Fatal Python error: Segmentation fault" in text
    assert text.index("line 7 in descend") < text.index("line 8 in descend")
    assert len(text) < 6_000


def test_what_a_crash_tells_is_printable(plugin: Plugin) -> None:
    code = r"exec(compile('ctypes.string_at(0)', '\x1b[31m\u202e.py', 'exec'))"
    text = str(failure(plugin(PLUGIN), code)[0])
    assert all(c.isprintable() or c in "\n\t" for c in text)
    assert len(text) < 6_000


def test_an_exit_has_no_stack(plugin: Plugin) -> None:
    error, _ = failure(plugin(PLUGIN), "os._exit(3)")
    assert "exited with status 3" in str(error)
    assert "Fatal" not in str(error)


# ---- limits, loops ----


@needs_notes
def test_a_limit_names_where_it_is(plugin: Plugin) -> None:
    extension = plugin(PLUGIN, sandbox={"limits": {"memory": 1 << 30}})
    found, notes = failure(extension, "bytearray(4 << 30)")
    assert type(found) is MemoryError
    assert "'memory': 1073741824 under 'limits' in 'sandbox'" in notes


def test_other_loops_are_told(plugin: Plugin) -> None:
    """A library such as trio has its own loops."""
    extension = plugin(PLUGIN)

    async def call() -> None:
        await extension.run("import time; time.sleep(0.1)")

    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"needs a running asyncio event loop; .*extension\.sync"):
            call().send(None)
        asyncio.run(call())


# ---- workers, where the system permits no namespaces ----

WORKERS = """
import multiprocessing
from pyisolate import ExtensionBase

class Numbers:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        import torch
        return torch.ones(3) * index

class E(ExtensionBase):
    def load(self):
        from torch.utils.data import DataLoader
        return sum(float(batch.sum()) for batch in DataLoader(Numbers(), num_workers=2))

    def lock(self):
        multiprocessing.Lock()
"""


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out(monkeypatch, NAMESPACES)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("network", [True, False])
def test_workers_that_cannot_send_end(plugin: Plugin, without_namespaces: None, network: bool) -> None:
    """They hung."""
    sandbox = {"writable_paths": ["/dev/shm"], "network": network}
    extension = plugin(WORKERS, sandbox=sandbox, share_torch=True, call_timeout=60)
    with pytest.raises(RuntimeError, match="exited unexpectedly") as caught:
        extension.sync.load()
    if sys.version_info >= (3, 11):
        assert "'local_sockets': True" in "\n".join(caught.value.__notes__)
    more = plugin(WORKERS, name="more", sandbox={**sandbox, "local_sockets": True}, share_torch=True)
    assert more.sync.load() == 18.0


@needs_notes
def test_locks_of_multiprocessing(plugin: Plugin, without_namespaces: None) -> None:
    extension = plugin(WORKERS)
    with pytest.raises(PermissionError) as caught:
        extension.sync.lock()
    assert "'writable_paths': ['/dev/shm']" in "\n".join(caught.value.__notes__)
