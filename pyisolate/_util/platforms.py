"""The supported platforms: which Pythons import PyIsolate, and where extensions run in separate processes.

The build runs this file too. It is valid in every Python 3, so that an old one can report that it is too old.
"""

import sys

__all__ = ["install_core_stub", "isolation_fault", "python_fault"]

_IMPLEMENTATIONS = {"pypy": "PyPy", "graalpy": "GraalPy", "ironpython": "IronPython", "jython": "Jython"}
_SYSTEMS = {
    "win32": "Windows",
    "cygwin": "Cygwin",
    "darwin": "macOS",
    "ios": "iOS",
    "android": "Android",
    "emscripten": "WebAssembly",
    "wasi": "WebAssembly",
}
_INSTEAD = {
    "win32": "in WSL 2 or a Linux container",
    "cygwin": "in WSL 2 or a Linux container",
    "darwin": "in a Linux container or virtual machine",
}

_has_core = True


def python_fault() -> str:
    """Return why this Python cannot run the package, and what to do; the empty string if it can."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.implementation.name != "cpython":
        name = _IMPLEMENTATIONS.get(sys.implementation.name, sys.implementation.name)
        return (
            f"PyIsolate uses the C interface of CPython and does not run on {name} ({sys.executable}): "
            "run this program with CPython 3.10 or later"
        )
    if sys.version_info < (3, 10):  # noqa: UP036
        return f"PyIsolate needs Python 3.10 or later, and this is Python {version} ({sys.executable})"
    if _is_free_threaded():
        short = ".".join(map(str, sys.version_info[:2]))
        return (
            "PyIsolate does not run on free-threaded builds of Python yet, and this is one "
            f"({sys.executable}): run this program with the build of Python {short} that has the GIL, "
            f"which is called python{short}, not python{short}t"
        )
    return ""


def _is_free_threaded() -> bool:
    """Return whether this is a free-threaded build: its objects have another layout even with the GIL on."""
    gil = getattr(sys, "_is_gil_enabled", None)
    return (
        "t" in getattr(sys, "abiflags", "")
        or "free-threading build" in sys.version
        or (gil is not None and not gil())
    )


def install_core_stub(package: str, path: str, error: ImportError) -> None:
    """Install the stub `no_core` as `_core`, whose import raised `error`, on systems other than Linux.

    Raises ImportError on Linux, where the core must exist.
    """
    global _has_core
    if "subinterpreters" in str(error):
        raise ImportError(
            "PyIsolate runs only in the main interpreter of a process, and this is a subinterpreter: import "
            "it in the main one, or use a process instead of a subinterpreter (multiprocessing; under "
            "mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
        ) from None
    if sys.platform != "linux":
        from . import no_core

        _has_core = False
        sys.modules[f"{package}._core"] = sys.modules[package]._core = no_core  # type: ignore[attr-defined]
        return
    if not isinstance(error, ModuleNotFoundError) or error.name != f"{package}._core":
        raise error
    raise ImportError(
        f"{path} contains sources of PyIsolate that are not built for this Python. If PyIsolate is also "
        "installed, start Python in another folder; otherwise run in this folder: pip install -e ."
    ) from None


def isolation_fault() -> str:
    """Return why extensions cannot run in separate processes here, and what to do; empty if they can."""
    if _has_core:
        return ""
    name = _SYSTEMS.get(sys.platform, sys.platform)
    return (
        f"an extension can have a process of its own only on Linux, and this is {name}: set 'isolated' to "
        "False to run it in this process, not confined and with the packages of this process, or run "
        f"this program on Linux ({_INSTEAD.get(sys.platform, 'in a container or a virtual machine')})"
    )


if __name__ == "__main__":  # run by the build
    print(python_fault())
