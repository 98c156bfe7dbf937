"""References to classes of the host, by which an extension's process imports them.

The host is trusted, so an extension's process imports what the host names. The host imports nothing that an
extension names.
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
    "definition",
    "importing_main",
    "main_failure",
    "main_file",
    "make_reference",
    "needed_files",
    "public_module",
    "resolve",
    "set_host_main",
]

_log = logging.getLogger("pyisolate")

MAIN = "__main__"
_HOST_MAIN = "__pyisolate_main__"


class Reference(TypedDict):
    """Where a class is defined."""

    module: str
    qualname: str
    file: str | None
    """The module's source, for modules that cannot be found by name, such as scripts."""
    run_as: str | None
    """The argument of ``python -m``, if the class is of the main module and that was run so."""


def make_reference(cls: type) -> Reference:
    """Return a reference to a class of this process.

    Raises ConfigurationError if another process could not import the class.
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


def public_module(name: str) -> str:
    """Return the name that a module has in the host. The host's main module has another one elsewhere."""
    return MAIN if name == _HOST_MAIN else name


def needed_files(references: Iterable[Reference]) -> list[str]:
    """Return the files and folders that another process reads to resolve the references."""
    found: list[str] = []
    for reference in references:
        package = sys.modules.get(reference["module"].partition(".")[0])
        found += map(os.path.abspath, getattr(package, "__path__", ()))
        if reference["file"]:
            found.append(os.path.abspath(reference["file"]))
    return found


def resolve(reference: Reference) -> Any:
    """Import and return the class that a reference names. Raises what the import raises."""
    found: Any = _main(reference) if reference["module"] == MAIN else _module(reference)
    for part in reference["qualname"].split("."):
        found = getattr(found, part)
    return found


def _module(reference: Reference) -> ModuleType:
    name, file = reference["module"], reference["file"]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Load the file only if the module itself is missing, not if something that it imports is.
        if file is None or not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise
    return load_file(name, file)


def load_file(name: str, file: str, package: list[str] | None = None) -> ModuleType:
    """Import a source file under a name. `package`: the folders of its submodules, if it is a package."""
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

WARN_AFTER = 10.0  # seconds until a warning says that the import of the program has not ended

_host_main: str | None = None
_importing_main = False
_main_failure: ImportError | None = None


def main_file() -> str | None:
    """Return the file of this process's main module, or None if it has none."""
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    return os.path.abspath(file) if file else None


def set_host_main(file: str | None) -> None:
    """Set the file of the host's program, in an extension's process."""
    global _host_main
    _host_main = file


def importing_main() -> bool:
    """Return whether this is an extension's process that imports the host's program at this moment."""
    return _importing_main or (_host_main is not None and _runs(_host_main, sys._getframe()))


def _runs(file: str, frame: FrameType | None) -> bool:
    """Return whether `frame` or one of its callers executes the module in `file`."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return True
        frame = frame.f_back
    return False


def main_failure(error: BaseException) -> ImportError | None:
    """Return the error to raise instead of `error` if the import of the host's program raised it, or None."""
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
        text = f"It could not be imported there: {error!r}"
    else:
        text = (
            f"The import runs the program there, which ended with {type(error).__name__}: put what starts it "
            'under `if __name__ == "__main__":`'
        )
    return ImportError(
        f"{file} is the host's program. The extension's process imports it, too, for what it defines. {text}",
        path=file,
    )


def _has_guard(file: str) -> bool:
    """Return whether the program has a statement ``if __name__ == "__main__":``."""
    import ast  # imported here, because it would take memory in each extension's process

    with suppress(OSError, SyntaxError, ValueError):
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
        tests = [set(map(ast.unparse, ast.walk(node.test))) for node in tree.body if isinstance(node, ast.If)]
        return any({"__name__", repr(MAIN)} <= test for test in tests)
    return True


def _warn_that_it_runs(file: str) -> None:
    hint = "" if _has_guard(file) else ': put what starts it under `if __name__ == "__main__":`'
    _log.warning("the extension's process still imports %s, the host's program%s", file, hint)


def _main(reference: Reference) -> ModuleType:
    """Return the host's main module.

    It is run once, under another name, so that ``if __name__ == "__main__"`` is false in it.
    """
    global _importing_main, _main_failure
    import runpy  # imported here, because few extensions need the host's main module

    if _HOST_MAIN in sys.modules:
        return sys.modules[_HOST_MAIN]
    if _main_failure is not None:  # a second run would fail for other reasons
        raise ImportError(str(_main_failure), path=reference["file"]) from _main_failure.__cause__
    module = ModuleType(_HOST_MAIN)
    file = os.path.abspath(reference["file"] or "")
    timer = threading.Timer(WARN_AFTER, _warn_that_it_runs, (file,))
    timer.daemon = True
    timer.start()
    _importing_main = True
    try:
        if reference["run_as"]:
            content = runpy.run_module(reference["run_as"], run_name=_HOST_MAIN, alter_sys=True)
        else:
            content = runpy.run_path(file, run_name=_HOST_MAIN)
    except (Exception, SystemExit) as error:
        _main_failure = _main_error(file, error)
        raise _main_failure from error
    finally:
        _importing_main = False
        timer.cancel()
        timer.join()
    vars(module).update(content)
    sys.modules[_HOST_MAIN] = sys.modules[MAIN] = module
    if (name := _import_name(reference)) is not None:
        sys.modules.setdefault(name, module)
    return module


def _import_name(reference: Reference) -> str | None:
    """Return the name by which extensions can import the host's main module, or None.

    The module is registered under this name, so that an import does not make a second copy of its classes.
    """
    if reference["run_as"]:
        return reference["run_as"]
    file = reference["file"] or ""
    name = os.path.splitext(os.path.basename(file))[0]
    spec = importlib.machinery.PathFinder.find_spec(name)
    same = spec is not None and spec.origin is not None and os.path.samefile(spec.origin, file)
    return name if same else None


def definition(cls: type) -> tuple[str, str]:
    """Return where a class is defined: the file, or the module if it has no file, and the qualified name.

    The result is the same in each process. A module's name is not: the main module has another one elsewhere.
    """
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return os.path.realpath(file) if file else cls.__module__, cls.__qualname__
