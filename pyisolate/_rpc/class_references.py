"""Classes of the host, named so that another process can import them.

The host is trusted, so what it names is imported. Nothing that an extension names ever is.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType, ModuleType
from typing import Any, TypedDict

from ..errors import ConfigurationError

__all__ = [
    "Reference",
    "blame_main",
    "definition",
    "importing_main",
    "main_file",
    "needed_files",
    "refer",
    "resolve",
    "set_host_main",
]

_log = logging.getLogger("pyisolate")

MAIN = "__main__"
_MAIN_HERE = "__pyisolate_main__"


class Reference(TypedDict):
    """Where a class is defined."""

    module: str
    qualname: str
    file: str | None
    """The module's source, for modules that cannot be found by name: scripts, what was loaded by path."""
    run_as: str | None
    """For the main module: the name that ``python -m`` was given."""


def refer(cls: type) -> Reference:
    """A reference to a class of this process.

    Raises ConfigurationError when another process could not import it.
    """
    module = sys.modules.get(cls.__module__)
    name = f"{cls.__module__}.{cls.__qualname__}"
    found: Any = module
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    # A class that is being decorated is not in its module yet.
    if module is None or "<locals>" in name or found not in (None, cls):
        raise ConfigurationError(
            f"{name} cannot be imported by an extension's process; define it at the top level of a module"
        )
    file = getattr(module, "__file__", None)
    run_as = None
    if cls.__module__ == MAIN:
        spec = getattr(module, "__spec__", None)
        run_as = spec.name if spec else None
        if file is None or (run_as is None and not os.path.isfile(file)):  # python < program.py
            raise ConfigurationError(
                f"{cls.__qualname__} is defined in an interactive session, which an extension's process "
                "cannot import; define it in a module"
            )
    return Reference(module=cls.__module__, qualname=cls.__qualname__, file=file, run_as=run_as)


def needed_files(references: Iterable[Reference]) -> list[str]:
    """Files and folders of this process that another one reads to resolve the references."""
    found: list[str] = []
    for reference in references:
        package = sys.modules.get(reference["module"].partition(".")[0])
        found += map(os.path.abspath, getattr(package, "__path__", ()))
        if reference["file"]:
            found.append(os.path.abspath(reference["file"]))
    return found


def resolve(reference: Reference) -> Any:
    """The class behind a reference, imported. Raises what the import raises."""
    found: Any = _main(reference) if reference["module"] == MAIN else _module(reference)
    for part in reference["qualname"].split("."):
        found = getattr(found, part)
    return found


def _module(reference: Reference) -> ModuleType:
    name, file = reference["module"], reference["file"]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when the module itself is missing, not something that it imports.
        if file is None or not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise
    return load_file(name, file)


def load_file(name: str, file: str, package: list[str] | None = None) -> ModuleType:
    """Import a source file under a name; with `package` as a package with these folders."""
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module", name=name, path=file)
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    return module


# ---- the host's program, in an extension's process ----

STILL_RUNS = 10.0  # seconds until a program that is imported is said to run

_host_main: str | None = None
_importing_main = False
_main_failure: ImportError | None = None


def main_file() -> str | None:
    """The file of this process's main module, if it has one."""
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    return os.path.abspath(file) if file else None


def set_host_main(file: str | None) -> None:
    """In an extension's process: which file the host's program is."""
    global _host_main
    _host_main = file


def importing_main() -> bool:
    """Whether this process is an extension's that is importing the host's program right now."""
    return _importing_main or (_host_main is not None and _runs(_host_main, sys._getframe()))


def _runs(file: str, frame: FrameType | None) -> bool:
    """Whether the module in a file is being executed there."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return True
        frame = frame.f_back
    return False


def blame_main(error: BaseException) -> ImportError | None:
    """What to raise for an error that came while the host's program was imported; None if it did not."""
    seen: BaseException | None = error
    while seen is not None and _host_main is not None:
        trace = seen.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_name == "<module>" and code.co_filename == _host_main:
                return _main_error(_host_main, seen)
            trace = trace.tb_next
        seen = seen.__cause__ or seen.__context__
    return None


def _main_error(file: str, error: BaseException) -> ImportError:
    if _has_guard(file):
        text = f"could not be imported there: {error!r}"
    else:
        text = (
            "starts when it is imported, which ended with "
            f'{type(error).__name__}: put what starts it under `if __name__ == "__main__":`'
        )
    return ImportError(
        f"{file} is the host's program. The extension's process imports it, too, for what it defines, and it "
        f"{text}",
        path=file,
    )


def _has_guard(file: str) -> bool:
    """Whether something in the program is done only where it is the main module."""
    import ast  # not before it is needed: each extension's process would have it in its memory

    with suppress(OSError, SyntaxError, ValueError):
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
        tests = [set(map(ast.unparse, ast.walk(node.test))) for node in tree.body if isinstance(node, ast.If)]
        return any({"__name__", repr(MAIN)} <= test for test in tests)
    return True


def _tell_that_it_runs(file: str) -> None:
    hint = "" if _has_guard(file) else ': put what starts it under `if __name__ == "__main__":`'
    _log.warning("the extension's process still imports %s, the host's program%s", file, hint)


def _main(reference: Reference) -> ModuleType:
    """The host's main module, run once under another name: ``if __name__ == "__main__"`` is false in it."""
    global _importing_main, _main_failure
    import runpy  # not at import: few extensions need the host's main module

    if _MAIN_HERE in sys.modules:
        return sys.modules[_MAIN_HERE]
    if _main_failure is not None:  # a second run would fail for other reasons
        raise ImportError(str(_main_failure), path=reference["file"]) from _main_failure.__cause__
    module = ModuleType(_MAIN_HERE)
    file = os.path.abspath(reference["file"] or "")
    teller = threading.Timer(STILL_RUNS, _tell_that_it_runs, (file,))
    teller.daemon = True
    teller.start()
    _importing_main = True
    try:
        if reference["run_as"]:
            content = runpy.run_module(reference["run_as"], run_name=_MAIN_HERE, alter_sys=True)
        else:
            content = runpy.run_path(file, run_name=_MAIN_HERE)
    except (Exception, SystemExit) as error:
        _main_failure = _main_error(file, error)
        raise _main_failure from error
    finally:
        _importing_main = False
        teller.cancel()
        teller.join()
    vars(module).update(content)
    sys.modules[_MAIN_HERE] = sys.modules[MAIN] = module
    if (name := _import_name(reference)) is not None:
        sys.modules.setdefault(name, module)
    return module


def _import_name(reference: Reference) -> str | None:
    """The name by which extensions import from the host's main module: not a copy with classes of its own."""
    if reference["run_as"]:
        return reference["run_as"]
    file = reference["file"] or ""
    name = os.path.splitext(os.path.basename(file))[0]
    spec = importlib.machinery.PathFinder.find_spec(name)
    same = spec is not None and spec.origin is not None and os.path.samefile(spec.origin, file)
    return name if same else None


def definition(cls: type) -> tuple[str, str]:
    """Where a class is defined, the same in each process: the main module has other names in others."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return os.path.realpath(file) if file else cls.__module__, cls.__qualname__
