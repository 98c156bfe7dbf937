"""The library for hosts in C as it is installed: for older hosts, and for one that loads an extension.

That host uses docs/wire-format.md and the public headers only.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paths import ROOT

import pyisolate
from pyisolate import _core

SOURCES = ROOT / "tests" / "library"
MESON = Path(sys.executable).parent / "meson"

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    pytest.mark.skipif(not MESON.exists(), reason="there is no meson"),
]

EXTENSION = """
import logging

from pyisolate import ExtensionBase


class Clock:
    def now(self) -> int: ...


class Example(ExtensionBase):
    async def on_module_loaded(self, module):
        logging.getLogger("example").warning("loaded")

    def add(self, a, b):
        return a + b

    def greet(self):
        self.emit_event("greeted", {"who": "C"})
        try:
            self.create_caller(Clock, "no clock").sync.now()
        except LookupError as error:
            return f"hello at {self.create_caller(Clock, 'clock').sync.now()}, {error}"

    def fail(self):
        raise ValueError("as it should")

    def give(self):
        return self._twice

    def _twice(self, number):
        return 2 * number

    def is_mine(self, function):
        return function == self._twice
"""


def run(*command: object, **more: object) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300, **more
    )  # type: ignore[call-overload]
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The prefix of the installed library, compiled without optimisation to be quick."""
    folder = tmp_path_factory.mktemp("library")
    build, prefix = folder / "build", folder / "prefix"
    options = ["python=false", "tests=disabled", "benchmarks=false", "b_lto=false", "optimization=0"]
    path = os.pathsep.join([str(MESON.parent), os.environ.get("PATH", "")])
    environ = {**os.environ, "PATH": path}
    run(
        MESON,
        "setup",
        build,
        ROOT,
        f"--prefix={prefix}",
        "--libdir=lib",
        *(f"-D{o}" for o in options),
        env=environ,
    )
    run(MESON, "install", "-C", build, env=environ)
    yield prefix
    shutil.rmtree(folder)


def compiled(source: Path, target: Path, include: Path, options: list[str]) -> Path:
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    run("cc", *flags, "-I", include, source, "-o", target, *options)
    return target


def shared(prefix: Path) -> list[str]:
    return [f"-L{prefix / 'lib'}", f"-Wl,-rpath,{prefix / 'lib'}", "-lpiso"]


def static(prefix: Path) -> list[str]:
    """Return the pkg-config file's flags for the static library."""
    text = (prefix / "lib" / "pkgconfig" / "piso.pc").read_text()
    private = re.search(r"^Libs\.private: (.*)$", text, re.MULTILINE)
    assert private is not None
    return [str(prefix / "lib" / "libpiso.a"), *private[1].split()]


def test_every_symbol_has_a_version(prefix: Path) -> None:
    if not shutil.which("nm"):
        pytest.skip("there is no nm")
    names = run("nm", "-D", "--defined-only", "--with-symbol-versions", prefix / "lib" / "libpiso.so").split()
    versioned = {name for name in names if name.startswith("piso_")}
    assert versioned
    assert all(name.endswith("@@PISO_0.1") for name in versioned)


SHORTER = {
    # header: what older versions did not have
    "event.h": (r"#define PISO_EVENT_INLINE 512", "#define PISO_EVENT_INLINE 64"),
    "sandbox.h": (r"\n *uint64_t\s+shared_memory;[^}]*", "\n"),
    "session.h": (r"\n *uint64_t leases_given, leases_held;[^\n]*", ""),
    "zygote.h": (r"\n *bool execute; /\* never[^\n]*", ""),
}
OTHERS = {
    "sandbox.h": (r"layers\[PISO_LAYERS\]", "layers[PISO_LAYERS - 2]"),
}
SHORTEST = {
    "process.h": (r"\n *piso_sandbox_report \*report;[^\n]*", ""),
    "sandbox.h": (r"\n *unsigned omit;[^\n]*", ""),
}


def older(prefix: Path, folder: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """The headers as an older version had them."""
    shutil.copytree(prefix / "include", folder)
    for name, (pattern, replacement) in changes.items():
        path = folder / "piso" / name
        text, count = re.subn(pattern, replacement, path.read_text())
        assert count == 1, f"{name} has no {pattern}"
        path.write_text(text)
    return folder


@pytest.mark.parametrize("changes", [SHORTER, OTHERS, SHORTEST], ids=["shorter", "others", "shortest"])
@pytest.mark.parametrize("link", [shared, static])
def test_older_hosts_are_not_overwritten(
    prefix: Path, tmp_path: Path, link: Callable[[Path], list[str]], changes: dict[str, tuple[str, str]]
) -> None:
    include = older(prefix, tmp_path / "older", changes)
    options = ["-DNO_REPORT"] if "process.h" in changes else []
    program = compiled(SOURCES / "older.c", tmp_path / "host", include, [*options, *link(prefix)])
    run(program)


def test_a_host_of_this_version(prefix: Path, tmp_path: Path) -> None:
    program = compiled(SOURCES / "older.c", tmp_path / "same", prefix / "include", shared(prefix))
    assert run(program) == "compiled {0}, runs {0}\n".format(run_version(prefix))


def run_version(prefix: Path) -> str:
    match = re.search(r'PISO_VERSION +"([\d.]+)"', (prefix / "include" / "piso" / "version.h").read_text())
    assert match is not None
    return match[1]


@pytest.mark.parametrize("link", [shared, static])
def test_a_host_in_c_loads_and_calls_an_extension(
    prefix: Path, tmp_path: Path, link: Callable[[Path], list[str]]
) -> None:
    folder = tmp_path / "called_from_c"
    folder.mkdir()
    (folder / "__init__.py").write_text(EXTENSION)
    host = compiled(SOURCES / "host.c", tmp_path / "host", prefix / "include", link(prefix))
    package = Path(pyisolate.__file__).parent
    arguments = {
        "core": _core.__file__,
        "package": str(package),
        "path": [entry for entry in sys.path if entry],
    }
    bootstrap = package / "_child" / "bootstrap.py"
    lines = run(host, folder, sys.executable, bootstrap, json.dumps(arguments)).splitlines()
    assert lines == [
        *("log 30 of example", "log text loaded", "loaded Example", "wrong 0"),
        *("event greeted", "greet hello at 1234, the host in C has no such thing"),
        *("fail builtins:ValueError", "fail as it should"),
        *("given Example._twice", "function 10", "function 12", "home 1"),
        *("ended builtins:LookupError", "ended 0"),
    ]
