"""Loads an extension in the process in which it runs: its own, or the host's."""

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

__all__ = ["Loader", "await_result", "host_instance", "missing_module", "module_name"]


_log = logging.getLogger("pyisolate")
_T = TypeVar("_T")


async def await_result(result: Any) -> Any:
    """Return the result of a function that may be plain or async."""
    return await result if inspect.isawaitable(result) else result


def module_name(module_path: str | os.PathLike[str]) -> str:
    """Return the name in sys.modules of the extension in a folder."""
    return os.path.basename(module_path).replace("-", "_").replace(".", "_")


class Loader:
    """Load one extension: import its module, instantiate its class, and call its hooks."""

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
        self._initial: dict[str, Any] = {}

    async def load(self) -> Any:
        """Load the extension and return its object when `on_module_loaded` has finished.

        Raises what the extension's code raises.
        """
        hook_instance = await self._run_before_hook()
        self._use_apis()
        module = self._import()
        with _removed_on_error(module):
            cls = _class_of(module, self._type)
            _warn_of_hidden_names(cls)
            if type(hook_instance) is cls:
                extension = hook_instance
            else:
                extension = self._instantiate(cls)
                if hook_instance is not None:
                    self._copy_attributes(hook_instance, extension)
            await await_result(extension.on_module_loaded(module))
        return extension

    async def _run_before_hook(self) -> Any:
        """Call `before_module_loaded` if the application's class defines it.

        Return the instance on which it was called, or None.
        """
        if self._type.before_module_loaded is ExtensionLocal.before_module_loaded or inspect.isabstract(
            self._type
        ):
            return None
        hook_instance = self._instantiate(self._type)
        self._initial = dict(vars(hook_instance))
        await await_result(hook_instance.before_module_loaded())
        return hook_instance

    def _copy_attributes(self, hook_instance: Any, extension: Any) -> None:
        """Copy the attributes that `before_module_loaded` has set to the extension.

        If both classes have the same `__init__`, all attributes are copied.
        """
        same = type(extension).__init__ is type(hook_instance).__init__
        for name, value in vars(hook_instance).items():
            if same or name not in self._initial or self._initial[name] is not value:
                setattr(extension, name, value)

    def _instantiate(self, cls: type[Any]) -> Any:
        extension = _construct(cls)
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
        except SystemExit as end:  # it would end the host without a message
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
        *("register_event_handler", "sandbox_status", "stop", "sync", "unregister_event_handler"),
        "with_timeout",
    }
)
"""Names that the host's proxy for an extension has itself. They are listed here, because an extension's
process does not load the module of the proxy."""


def _warn_of_hidden_names(cls: type[Any]) -> None:
    """Warn of methods of the extension that the host cannot call, because names of its proxy hide them.

    `stop` is called when the extension's process ends. It causes a warning if it needs arguments.
    """
    own = [vars(base) for base in cls.__mro__ if base not in (ExtensionBase, *ExtensionBase.__mro__)]
    hidden = {name for names in own for name in HIDDEN_NAMES.intersection(names)}
    for name in sorted(hidden):
        method = getattr(cls, name, None)
        if not callable(method) or (name == "stop" and _takes_only_self(method)):
            continue
        remedy = (
            "it is called, without arguments, when the process ends. Rename it"
            if name == "stop"
            else "rename it"
        )
        _log.warning(
            "the host cannot call the method %r of %s: its proxy has another attribute with this name; %s",
            name,
            cls.__qualname__,
            remedy,
        )


def _takes_only_self(method: Any) -> bool:
    """Return whether a method can be called without arguments.

    This reads the code object, because signatures of `inspect` take memory.
    """
    code = getattr(method, "__code__", None)
    if code is None:
        return True
    needed: int = code.co_argcount - len(method.__defaults__ or ())
    return needed <= 1 and code.co_kwonlyargcount <= len(method.__kwdefaults__ or ())


def _is_elsewhere(name: str, folder: str | os.PathLike[str]) -> bool:
    """Return whether sys.path may have another module with this name.

    Only file names are checked, because this runs at each start.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    return any(
        os.path.exists(os.path.join(entry, name, "__init__.py"))
        or os.path.exists(os.path.join(entry, f"{name}.py"))
        for entry in sys.path
        if entry != parent
    )


def _hidden(name: str, file: str) -> str:
    """Return a hint on another module that has the extension's name; empty if there is none."""
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
def _removed_on_error(module: ModuleType) -> Iterator[None]:
    """Remove the module from sys.modules after an error. In the host's process others may need its name."""
    try:
        yield
    except BaseException:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        raise


def _construct(cls: type[Any]) -> Any:
    """Return an instance. Raises TypeError that names the remedy if the class needs arguments."""
    try:
        return cls()
    except TypeError as error:
        if wanted := _missing_arguments(cls, cls):
            raise TypeError(
                f"{wanted}; give them defaults, or let the host call a method with them"
            ) from error
        raise


def host_instance(cls: type[_T], extension: str) -> _T:
    """Return the one instance of a singleton in the host, for an extension that may call it.

    If the instance cannot be made, the error names the extension.
    """
    try:
        return cls()
    except Exception as error:
        name = cls.__qualname__
        listed = "'apis' lists it, or a class that refers to it"
        use = f"extension {extension!r} needs the host's {name}: {listed}"
        if isinstance(error, TypeError) and (wanted := _missing_arguments(cls, partial(cls.__init__, None))):
            raise TypeError(
                f"{use}. {wanted}; make it, with its arguments, before the extension is started"
            ) from error
        if hasattr(error, "add_note"):
            error.add_note(use)
        raise


def _missing_arguments(cls: type[Any], call: Callable[..., Any]) -> str:
    """Return a hint on the arguments that the class needs; empty if it needs none.

    Signatures take memory, so this is called only after an error.
    """
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
    """Return the class of a module's extension: the leaf among the subclasses of `base` that it defines.

    A leaf is a class from which no other of these classes derives. If there is none, the class is `base`,
    unless that is a class of PyIsolate or is abstract. Raises ImportError if there is no class, or if there
    are several leaves.
    """
    own = [
        value
        for value in {id(value): value for value in vars(module).values()}.values()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.")
    ]
    classes = [cls for cls in own if issubclass(cls, base) and cls is not base]
    leaves = [cls for cls in classes if not any(cls in other.__mro__[1:] for other in classes)]
    if len(leaves) == 1:
        return leaves[0]
    if leaves:
        raise ImportError(
            f"{module.__file__} defines more than one extension: {_names(leaves)}. A module defines "
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
    """Return the names of the first classes. The host shows them in an error, which must not be long."""
    names = ", ".join(cls.__qualname__ for cls in classes[:5])
    return f"{names} and {len(classes) - 5} more" if len(classes) > 5 else names


def _public_name(cls: type[Any]) -> str:
    module = "pyisolate" if cls in (ExtensionBase, ExtensionLocal) else cls.__module__
    return f"{module}.{cls.__qualname__}"


def check_not_imported(module_path: str | os.PathLike[str]) -> None:
    """Raise ImportError if another module of this process has the name of the extension in the folder."""
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
    """Return the remedy for a module that an extension does not find."""
    if (module_path / name).is_dir() or (module_path / f"{name}.py").is_file():
        return f"; a module of its own folder is imported like this: from . import {name}"
    return "; add the package that has it to its 'dependencies', or install it for the host"
