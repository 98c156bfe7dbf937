"""What PyIsolate runs on: which Pythons can import it, and where extensions have processes of their own.

The build runs it too, and so may any Python 3, to read that it is too old.
"""

import sys

__all__ = ["go_on_without_core", "isolation_fault", "python_fault"]

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
    "win32": "in WSL 2 or in a container of Linux",
    "cygwin": "in WSL 2 or in a container of Linux",
    "darwin": "in a container or a virtual machine of Linux",
}

_has_core = True


def python_fault() -> str:
    """Why this Python cannot run the package, and what to do; empty if it can."""
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
    """Of the build: with the GIL turned on its objects are laid out in another way all the same."""
    gil = getattr(sys, "_is_gil_enabled", None)
    return (
        "t" in getattr(sys, "abiflags", "")
        or "free-threading build" in sys.version
        or (gil is not None and not gil())
    )


def go_on_without_core(package: str, path: str, error: ImportError) -> None:
    """Put a stand-in into the place of the core, which raised `error`, where that is for Linux only.

    Raises ImportError where the core should be there.
    """
    global _has_core
    if "subinterpreters" in str(error):
        raise ImportError(
            "PyIsolate runs in the main interpreter of a process only, and this is a subinterpreter: import "
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
        f"{path} holds sources of PyIsolate that are not built for this Python. If it is installed as "
        "well, start Python in another folder, else run in this one: pip install -e ."
    ) from None


def isolation_fault() -> str:
    """Why no extension can have a process of its own on this system, and what to do; empty if it can."""
    if _has_core:
        return ""
    name = _SYSTEMS.get(sys.platform, sys.platform)
    return (
        f"an extension can have a process of its own on Linux only, and this is {name}: set 'isolated' to "
        "False, then it runs in this process, not confined and with the packages of this process, or run "
        f"this program on Linux ({_INSTEAD.get(sys.platform, 'in a container or a virtual machine')})"
    )


if __name__ == "__main__":  # for the build
    print(python_fault())
