"""Classes of the host, named so that another process can import them.

The host is trusted, so what it names is imported. Nothing that an extension names ever is.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import runpy
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypedDict

from .errors import ConfigurationError

__all__ = ["Reference", "importing_main", "needed_files", "refer", "resolve"]

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


_importing_main = False


def importing_main() -> bool:
    """Whether this process is an extension's that is importing the host's main module right now."""
    return _importing_main


def _main(reference: Reference) -> ModuleType:
    """The host's main module, run once under another name: ``if __name__ == "__main__"`` is false in it."""
    global _importing_main
    if _MAIN_HERE in sys.modules:
        return sys.modules[_MAIN_HERE]
    module = ModuleType(_MAIN_HERE)
    _importing_main = True
    try:
        if reference["run_as"]:
            content = runpy.run_module(reference["run_as"], run_name=_MAIN_HERE, alter_sys=True)
        else:
            content = runpy.run_path(reference["file"] or "", run_name=_MAIN_HERE)
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"the host's main module could not be imported by the extension's process: {error!r}. Does it "
            'start the program outside of `if __name__ == "__main__":`?'
        ) from error
    finally:
        _importing_main = False
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
