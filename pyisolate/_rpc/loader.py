"""Brings an extension to life in the process that it runs in: its own, or the host's."""

from __future__ import annotations

import importlib.machinery
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..shared import ExtensionBase, ExtensionLocal, HostLink
from ..singletons import ProxiedSingleton
from .class_references import load_file

__all__ = ["Loader", "host_instance", "missing_module", "module_name", "settle"]


_log = logging.getLogger("pyisolate")
_T = TypeVar("_T")


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
        self._made: dict[str, Any] = {}

    async def load(self) -> Any:
        """The extension's object, when its `on_module_loaded` has finished. Raises what its code raises."""
        hooked = await self._before()
        self._use_apis()
        module = self._import()
        with _forgotten_on_error(module):
            cls = _class_of(module, self._type)
            _tell_hidden_names(cls)
            if type(hooked) is cls:
                extension = hooked
            else:
                extension = self._connected(cls)
                if hooked is not None:
                    self._hand_over(hooked, extension)
            await settle(extension.on_module_loaded(module))
        return extension

    async def _before(self) -> Any:
        """Run `before_module_loaded` of the application's class, if it defines it, on an instance of it."""
        if self._type.before_module_loaded is ExtensionLocal.before_module_loaded or inspect.isabstract(
            self._type
        ):
            return None
        hooked = self._connected(self._type)
        self._made = dict(vars(hooked))
        await settle(hooked.before_module_loaded())
        return hooked

    def _hand_over(self, hooked: Any, extension: Any) -> None:
        """Give the extension, whose class the module defines, what `before_module_loaded` has set.

        That is all that the instance has if both were made in the same way.
        """
        same = type(extension).__init__ is type(hooked).__init__
        for name, value in vars(hooked).items():
            if same or name not in self._made or self._made[name] is not value:
                setattr(extension, name, value)

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


HIDDEN_NAMES = frozenset(
    {
        *("config", "create_caller", "ensure_process_started", "generation", "name", "register_callee"),
        *("register_event_handler", "sandbox_status", "stop", "sync", "with_timeout"),
    }
)
"""Names that the host's proxy of an extension has itself. Written down: a process of an extension has no
such proxy, and does not load its module."""


def _tell_hidden_names(cls: type[Any]) -> None:
    """Warn of methods of the extension that the host cannot call, because its proxy has something else there.

    `stop` is called when the extension's process ends, and is told of if it cannot be called so.
    """
    own = [vars(base) for base in cls.__mro__ if base not in (ExtensionBase, *ExtensionBase.__mro__)]
    hidden = {name for names in own for name in HIDDEN_NAMES.intersection(names)}
    for name in sorted(hidden):
        method = getattr(cls, name, None)
        if not callable(method) or (name == "stop" and _takes_nothing(method)):
            continue
        remedy = (
            "it is called, without arguments, when the process ends. Rename it"
            if name == "stop"
            else "rename it"
        )
        _log.warning(
            "the host cannot call the method %r of %s: its proxy has something else of this name; %s",
            name,
            cls.__qualname__,
            remedy,
        )


def _takes_nothing(method: Any) -> bool:
    """Whether it can be called with its object alone. By its code: looking at signatures takes memory."""
    code = getattr(method, "__code__", None)
    if code is None:
        return True
    needed: int = code.co_argcount - len(method.__defaults__ or ())
    return needed <= 1 and code.co_kwonlyargcount <= len(method.__kwdefaults__ or ())


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
        if wanted := _missing_arguments(cls, cls):
            raise TypeError(
                f"{wanted}; give them defaults, or let the host call a method with them"
            ) from error
        raise


def host_instance(cls: type[_T], extension: str) -> _T:
    """In the host: the one instance of a singleton, for an extension that may call it.

    An error of making it says for which extension that is done.
    """
    try:
        return cls()
    except Exception as error:
        name = cls.__qualname__
        use = f"extension {extension!r} needs the host's {name}: 'apis' lists it, or what refers to it"
        if isinstance(error, TypeError) and (wanted := _missing_arguments(cls, partial(cls.__init__, None))):
            raise TypeError(
                f"{use}. {wanted}; make it, with its arguments, before the extension is started"
            ) from error
        if hasattr(error, "add_note"):
            error.add_note(use)
        raise


def _missing_arguments(cls: type[Any], call: Callable[..., Any]) -> str:
    """What the class needs to be called; empty if nothing. Signatures take memory: not looked at before."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # not known
        return ""
    try:
        signature.bind()
    except TypeError as error:
        return (
            f"{cls.__module__}.{cls.__qualname__} is made without arguments, but its __init__ "
            f"takes {signature}: {error}"
        )
    return ""


def _class_of(module: ModuleType, base: type[Any]) -> type[Any]:
    """The class of a module's extension: the one leaf among the subclasses of `base` that it defines.

    A leaf is a class that no other of them derives from. Where there is none it is `base` itself, if that is
    the application's own. Raises ImportError when there is no class, or are several leafs.
    """
    own = [
        value
        for value in {id(value): value for value in vars(module).values()}.values()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.")
    ]
    classes = [cls for cls in own if issubclass(cls, base) and cls is not base]
    leafs = [cls for cls in classes if not any(cls in other.__mro__[1:] for other in classes)]
    if len(leafs) == 1:
        return leafs[0]
    if leafs:
        raise ImportError(
            f"{module.__file__} defines more than one extension: {_names(leafs)}. A module defines "
            "one: give each a folder of its own; or, if one extends another, derive it from that",
            name=module.__name__,
            path=module.__file__,
        )
    if base in (ExtensionBase, ExtensionLocal) or inspect.isabstract(base):
        there = f" (it has {_names(own)})" if own else ""
        raise ImportError(
            f"{module.__file__} has no extension: it must define a class that derives from "
            f"{_public_name(base)}, or import one from a module of its folder{there}",
            name=module.__name__,
            path=module.__file__,
        )
    others = [cls for cls in own if issubclass(cls, ExtensionLocal) and not issubclass(base, cls)]
    if others:
        _log.warning(
            "%s defines %s, which is not used, because it does not derive from %s: the application makes its "
            "extensions of that",
            module.__file__,
            _names(others),
            _public_name(base),
        )
    return base


def _names(classes: Sequence[type[Any]]) -> str:
    """A few of them; the loader's errors are the host's to read."""
    names = ", ".join(cls.__qualname__ for cls in classes[:5])
    return f"{names} and {len(classes) - 5} more" if len(classes) > 5 else names


def _public_name(cls: type[Any]) -> str:
    module = "pyisolate" if cls in (ExtensionBase, ExtensionLocal) else cls.__module__
    return f"{module}.{cls.__qualname__}"


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


def missing_module(module_path: Path, name: str) -> str:
    """What to do about a module that an extension does not find."""
    if (module_path / name).is_dir() or (module_path / f"{name}.py").is_file():
        return f"; a module of its own folder is imported like this: from . import {name}"
    return "; what it imports has to be in its 'dependencies' or installed for the host"
