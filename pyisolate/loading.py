"""Brings an extension to life in the process that it runs in: its own, or the host's."""

from __future__ import annotations

import importlib.machinery
import inspect
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .references import load_file
from .shared import ExtensionBase, ExtensionLocal, HostLink
from .singletons import ProxiedSingleton

__all__ = ["Loader", "module_name", "settle"]


_log = logging.getLogger("pyisolate")


async def settle(result: Any) -> Any:
    """The result of a function that may be plain or async."""
    return await result if inspect.isawaitable(result) else result


def module_name(module_path: str | os.PathLike[str]) -> str:
    """The name in sys.modules of the extension in a folder."""
    return os.path.basename(module_path).replace("-", "_").replace(".", "_")


class Loader:
    """Loads one extension."""

    def __init__(
        self,
        extension_type: type[Any],
        module_path: str | os.PathLike[str],
        apis: Sequence[type[ProxiedSingleton]],
        link: HostLink,
    ) -> None:
        self._type = extension_type
        self._path = module_path
        self._apis = apis
        self._link = link

    async def load(self) -> Any:
        """The extension's object, when its `on_module_loaded` has finished. Raises what its code raises."""
        if self._type is ExtensionBase:
            self._use_apis()
            module = self._import()
            with _forgotten_on_error(module):
                extension = self._connected(_class_of(module))
                await settle(extension.on_module_loaded(module))
        else:
            extension = self._connected(self._type)
            await settle(extension.before_module_loaded())
            self._use_apis()
            module = self._import()
            with _forgotten_on_error(module):
                await settle(extension.on_module_loaded(module))
        return extension

    def _connected(self, cls: type[Any]) -> Any:
        extension = _made(cls)
        if not isinstance(extension, ExtensionLocal):
            raise TypeError(f"{cls.__qualname__} must be a subclass of ExtensionBase")
        extension._link = self._link
        self._link.offer_extension(extension)
        return extension

    def _use_apis(self) -> None:
        for api in self._apis:
            self._link.use_remote(api)

    def _import(self) -> ModuleType:
        file = os.path.join(self._path, "__init__.py")
        name = module_name(self._path)
        if name in sys.modules or name in sys.stdlib_module_names or _is_elsewhere(name, self._path):
            _log_hidden(name, file)
        try:
            return load_file(name, file, [os.fspath(self._path)])
        except SystemExit as end:  # it would end the host, without a word
            raise ImportError(
                f"{file} called sys.exit({end.code!r}) when it was imported", path=file
            ) from end
        except Exception as error:
            if hasattr(error, "add_note") and (hidden := _hidden(name, file)):
                error.add_note(hidden)
            raise


def _is_elsewhere(name: str, folder: str | os.PathLike[str]) -> bool:
    """Whether the path may have another module of this name. Looks at names only: each start does it."""
    parent = os.path.dirname(os.path.abspath(folder))
    return any(
        os.path.exists(os.path.join(entry, name, "__init__.py"))
        or os.path.exists(os.path.join(entry, f"{name}.py"))
        for entry in sys.path
        if entry != parent
    )


def _hidden(name: str, file: str) -> str:
    """What to know about another module of the extension's name, in words; empty if there is none."""
    there = sys.modules.get(name)
    spec = importlib.machinery.PathFinder.find_spec(name) if there is None else there.__spec__
    origin = getattr(spec, "origin", None)
    if origin is None or (os.path.exists(origin) and os.path.samefile(origin, file)):
        return ""
    return f"the extension's module hides {name!r} of {origin}, which has the same name: rename its folder"


def _log_hidden(name: str, file: str) -> None:
    if hidden := _hidden(name, file):
        _log.warning("%s (%s)", hidden, os.path.dirname(file))


@contextmanager
def _forgotten_on_error(module: ModuleType) -> Iterator[None]:
    """What could not be loaded does not keep its name, which in the host's process others may need."""
    try:
        yield
    except BaseException:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        raise


def _made(cls: type[Any]) -> Any:
    """An instance. Raises TypeError with the remedy when the class takes arguments that it is not given."""
    try:
        return cls()
    except TypeError as error:
        if wanted := _missing_arguments(cls):
            raise TypeError(wanted) from error
        raise


def _missing_arguments(cls: type[Any]) -> str:
    """What the class needs to be called; empty if nothing. Signatures take memory: not looked at before."""
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # not known
        return ""
    try:
        signature.bind()
    except TypeError as error:
        return (
            f"{cls.__module__}.{cls.__qualname__} is made without arguments, but its __init__ "
            f"takes {signature}: {error}; give them defaults, or let the host call a method with them"
        )
    return ""


def _class_of(module: ModuleType) -> type[Any]:
    """The one extension class that a module defines.

    Raises ImportError when there is none, or are several.
    """
    own = [
        value
        for value in {id(value): value for value in vars(module).values()}.values()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.")
    ]
    classes = [cls for cls in own if issubclass(cls, ExtensionBase)]
    if len(classes) > 1:
        names = ", ".join(cls.__name__ for cls in classes)
        raise ImportError(
            f"{module.__file__} has more than one subclass of ExtensionBase ({names}); keep one, or hand the "
            "one that is meant to ExtensionManager",
            name=module.__name__,
        )
    if not classes:
        there = f" (it has {', '.join(cls.__name__ for cls in own[:5])})" if own else ""
        raise ImportError(
            f"{module.__file__} has no extension: it must define a class that derives from "
            f"pyisolate.ExtensionBase, or import one from a module of its folder{there}",
            name=module.__name__,
            path=module.__file__,
        )
    return classes[0]


def check_not_imported(module_path: str | os.PathLike[str]) -> None:
    """Raise ImportError when another module of this process has the name of the extension in the folder."""
    name = module_name(module_path)
    there = sys.modules.get(name)
    file = getattr(there, "__file__", None)
    own = os.path.join(module_path, "__init__.py")
    if there is not None and (file is None or not os.path.samefile(file, own)):
        raise ImportError(
            f"this process has a module {name!r} already, so {module_path} cannot be loaded into it; "
            "rename the folder or load it with 'isolated': True",
            name=name,
        )
