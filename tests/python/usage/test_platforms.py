"""Systems and Pythons on which PyIsolate cannot run, or not completely, simulated or real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import paths
import pytest
from processes import run_python
from wrappers import without_calls

import pyisolate
from pyisolate._util import no_core

ROOT = paths.ROOT


def said_by(program: str, folder: Path) -> str:
    """Return what a program prints in a fresh interpreter."""
    run = run_python(["-c", program], folder)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


# Hides what a system lacks, after the standard library has been imported as on Linux.
PRETEND = """
import sys, os
import asyncio, concurrent.futures, ctypes, importlib.util, inspect, json, logging, multiprocessing.util
import secrets, shutil, socket, subprocess, tempfile, threading, uuid
asyncio.run(asyncio.sleep(0))  # its loops are those of Linux
POSIX = ["fcntl", "resource", "pwd", "grp", "termios"]
OF_LINUX = "memfd_create pidfd_open sched_getaffinity O_PATH eventfd listxattr setns unshare"
OF_POSIX = (
    "fork forkpty register_at_fork getuid geteuid getgid killpg setsid getpgid waitid statvfs sysconf "
    "mkfifo uname chown O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_NONBLOCK"
)
windows = SYSTEM == "win32"

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "pyisolate._core" or (windows and name in POSIX):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
for name in POSIX if windows else []:
    sys.modules.pop(name, None)
for name in f"{OF_LINUX} {OF_POSIX if windows else ''}".split():
    vars(os).pop(name, None)
sys.platform = SYSTEM
"""

PLUGIN = """
import pyisolate

class Plugin(pyisolate.ExtensionBase):
    async def twice(self, number):
        return 2 * number

    def same(self, value):
        return value

    def fail(self):
        raise KeyError("nothing here")

    async def call(self, function, ref):
        assert isinstance(function, pyisolate.RemoteFunction) and isinstance(ref, pyisolate.Ref)
        return [await function(1), await ref.get(2), ref.methods]
"""

HOST = """
import http
import pyisolate
from pyisolate import ExtensionBase, ExtensionManager

pyisolate.register_type(http.HTTPStatus)

@pyisolate.register_type(by_ref=["get"])
class Store:
    def get(self, x):
        return x

folder = {"venv_root_path": "venvs"}
plugin = {"name": "plugin", "module_path": "plugin", "isolated": False}

async def main():
    async with ExtensionManager(ExtensionBase, folder) as manager:
        extension = manager.load_extension(plugin)
        assert await extension.twice(21) == 42
        assert await pyisolate.gather(extension.twice(1), extension.same(main)) == [2, main]
        ref = pyisolate.Ref(Store(), methods=["get"])
        assert await extension.call(lambda x: x + 1, ref) == [2, 2, ("get",)]
        assert await extension.call(extension.twice, Store()) == [2, 2, ("get",)]
        assert str(extension.sandbox_status()) == "not confined"
        try:
            await extension.fail()
        except KeyError as error:
            assert error.args == ("nothing here",)
        for isolated in ({}, {"isolated": True}):
            config = {"name": "other", "module_path": "plugin", **isolated}
            try:
                manager.load_extension(config)
            except pyisolate.ConfigurationError as error:
                print(error)
        assert list(manager.extensions) == ["plugin"]
        await extension.stop()
        assert await extension.twice(3) == 6

asyncio.run(main())
with ExtensionManager(ExtensionBase, folder) as manager:
    [extension] = manager.preload([plugin]).wait()
    assert extension.sync.twice(4) == 8
for name in pyisolate.__all__:
    getattr(pyisolate, name)
print(pyisolate.__version__)
"""


@pytest.mark.parametrize(
    ("system", "name", "instead"),
    [
        ("win32", "Windows", "WSL 2"),
        ("darwin", "macOS", "container"),
        ("cygwin", "Cygwin", "WSL 2"),
        ("freebsd14", "freebsd14", "virtual machine"),
    ],
)
def test_a_system_without_the_core(system: str, name: str, instead: str, tmp_path: Path) -> None:
    """Extensions run in their host's process there; an isolated one fails with the reason."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text(PLUGIN)
    said = said_by(f"SYSTEM = {system!r}\n{PRETEND}{HOST}", tmp_path)
    first, second, version = said.splitlines()
    assert first == second
    for words in ("'other'", f"this is {name}", "'isolated' to False", "not confined", instead):
        assert words in first
    assert version == pyisolate.__version__


def test_the_stand_in_is_like_the_core() -> None:
    """It has the same error classes with the same bases, and registers the same types."""
    real = sys.modules["pyisolate._core"]
    for name in no_core.__all__:
        theirs, ours = getattr(real, name), getattr(no_core, name)
        if isinstance(theirs, type) and issubclass(theirs, Exception):
            assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in theirs.__mro__]
            assert (ours.__module__, ours.__qualname__) == (theirs.__module__, theirs.__qualname__)
        else:
            assert callable(ours) == callable(theirs)
    registry = no_core.Registry()
    for cls in (KeyError, no_core.Enum, no_core.CallTimeout):
        assert registry.register(cls) == f"{cls.__module__}:{cls.__qualname__}"
    assert registry.register(KeyError, "other") == "other"
    for wrong in (int, object, 1, tuple):
        with pytest.raises(TypeError, match="cannot be registered: it must be an Enum"):
            registry.register(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="already registered"):
        registry.register(ValueError, "other")
    for cls in (no_core.Call, no_core.Session, no_core.RemoteFunction, no_core.Opaque):
        with pytest.raises(TypeError, match="cannot create"):
            cls()


def test_memory_that_nobody_shares() -> None:
    assert bytes(no_core.shared_buffer(3)) == bytes(3)
    torch = pytest.importorskip("torch")
    assert torch.empty(0, dtype=torch.int32).set_(no_core.shared_storage(8)).tolist() == [0, 0]


FIRST_START = """
import pyisolate
with pyisolate.ExtensionManager(pyisolate.ExtensionBase, {"venv_root_path": "venvs"}) as manager:
    for config in ({}, {"sandbox_mode": "disabled"}, {"isolated": False}):
        name = f"{len(manager.extensions)}"
        extension = manager.load_extension({"name": name, "module_path": "plugin", **config})
        try:
            print(extension.sync.twice(21))
        except (OSError, pyisolate.PyIsolateError) as error:
            print(error)
"""


@pytest.mark.parametrize("call", ["memfd_create", "pidfd_open", "landlock_create_ruleset"])
def test_a_kernel_that_lacks_a_call(call: str, tmp_path: Path) -> None:
    """The error names it and the remedy; functions that need no process, or no Landlock, work."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text(PLUGIN)
    wrapper = without_calls(call)
    if wrapper is None:
        pytest.skip("this system lets nobody filter system calls")
    run = run_python(["-c", FIRST_START], tmp_path, wrapper=wrapper)
    confined, open_, local = run.stdout.splitlines()
    assert local == "42"
    if call == "landlock_create_ruleset":
        assert "Landlock is forbidden" in confined
        assert "'sandbox_mode': SandboxMode.DISABLED" in confined
        assert open_ == "42"
    else:
        for message, name in ((confined, "'0'"), (open_, "'1'")):
            for words in (name, call, "Linux 5.4", "'isolated': False"):
                assert words in message


PYTHONS = {
    "PyPy": "sys.implementation.name = 'pypy'",
    "another implementation": "sys.implementation.name = 'graalpy'",
    "an old Python": "sys.version_info = (3, 9, 18, 'final', 0)",
    "a free-threaded build": "sys.abiflags += 't'",
    "a free-threaded build that says so": "sys.version = sys.version.replace('(', 'free-threading build (')",
    "a Python without the GIL": "sys._is_gil_enabled = lambda: False",
}


@pytest.mark.parametrize("kind", PYTHONS)
def test_a_python_that_is_not_supported(kind: str, tmp_path: Path) -> None:
    """The import and the build report it, before they import anything else."""
    pretend = f"import sys\n{PYTHONS[kind]}\n"
    said = said_by(
        f"{pretend}try:\n    import pyisolate\nexcept ImportError as error:\n    print(error)\n"
        "print([name for name in sys.modules if name.startswith('pyisolate')])",
        tmp_path,
    )
    message, modules = said.splitlines()
    for words in ("PyIsolate", sys.executable, "GIL" if "GIL" in kind or "free" in kind else "3.10 or later"):
        assert words in message
    assert modules == "['pyisolate._util', 'pyisolate._util.platforms']"
    supported = Path(pyisolate.__file__).with_name("_util") / "platforms.py"
    built = said_by(
        f"{pretend}import runpy\nrunpy.run_path({str(supported)!r}, run_name='__main__')", tmp_path
    )
    assert built == f"{message}\n"


def test_this_python_is_supported(tmp_path: Path) -> None:
    supported = Path(pyisolate.__file__).with_name("_util") / "platforms.py"
    said = subprocess.run([sys.executable, "-I", supported], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"


SUBINTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
    kinds = [("legacy",), ("isolated",)]
except ImportError:
    import _xxsubinterpreters as interpreters
    kinds = [(False,), (True,)]

def create(kind):
    return interpreters.create(*kind) if isinstance(kind[0], str) else interpreters.create(isolated=kind[0])

CODE = '''
import os
for attempt in range(2):
    try:
        import pyisolate
    except ImportError as error:
        os.write(1, f"{error}\\\\n".encode())
'''
if EARLY:
    import pyisolate
for kind in kinds:
    one = create(kind)
    interpreters.run_string(one, CODE)
    interpreters.destroy(one)
import pyisolate
assert pyisolate.ExtensionManager
"""


@pytest.mark.parametrize("early", [True, False], ids=["after the main one", "first"])
def test_a_subinterpreter(early: bool, tmp_path: Path) -> None:
    """Every attempt in a subinterpreter of any kind gets the error; the main interpreter is not affected."""
    said = said_by(f"EARLY = {early}\n{SUBINTERPRETERS}", tmp_path).splitlines()
    assert len(said) == 4
    assert all(
        "only in the main interpreter of a process" in line and "multiprocessing" in line for line in said
    )


def test_a_module_that_lacks_a_function_says_so(tmp_path: Path) -> None:
    """Only a missing core means a checkout that is not built; other errors of the core are shown."""
    package = tmp_path / "pyisolate"
    shutil.copytree(Path(pyisolate.__file__).parent, package, ignore=shutil.ignore_patterns("_core.*"))
    (package / "_core.py").write_text("import a_module_that_nobody_has")
    said = said_by(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n    import pyisolate\nexcept ImportError as error:\n    print(error)",
        tmp_path,
    )
    assert said == "No module named 'a_module_that_nobody_has'\n"


def test_the_build_without_the_core(tmp_path: Path) -> None:
    """For another system: a pure-Python wheel, built without a compiler."""
    pytest.importorskip("mesonpy")
    (tmp_path / "machine").write_text(
        "[host_machine]\nsystem = 'windows'\ncpu_family = 'x86_64'\ncpu = 'x86_64'\nendian = 'little'\n"
    )
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for folder in ("pyisolate", "tools"):
        shutil.copytree(ROOT / folder, checkout / folder)
    for file in ("meson.build", "meson_options.txt", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, checkout)
    settings = {"setup-args": f"--cross-file={tmp_path / 'machine'}"}
    subprocess.run(
        [sys.executable, "-c", f"import mesonpy; mesonpy.build_wheel({str(tmp_path)!r}, {settings!r})"],
        cwd=checkout,
        env={**os.environ, "CC": "false", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
        timeout=100,
    )
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "pyisolate/_util/no_core.py" in names
    assert not [name for name in names if name.endswith((".so", ".h", ".a"))]
