"""Objects of which a program has one, in the host, that extensions use as if it were theirs.

In the host a `ProxiedSingleton` class makes its one instance when it is first called. In an extension, whose
configuration lists the class under ``apis``, calling the class gives a proxy for the host's instance.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

__all__ = ["ProxiedSingleton", "SingletonMetaclass", "local_execution", "singleton_scope"]

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


class CallerFactory(Protocol):
    """What `use_remote` needs: something that makes proxies for objects of the other side."""

    def create_caller(self, object_type: type[_T], object_id: str) -> _T: ...


def local_execution(func: _F) -> _F:
    """Mark a method of a `ProxiedSingleton` to run in the process that calls it, on an instance there."""
    func._is_local_execution = True  # type: ignore[attr-defined]
    return func


def is_local(method: object) -> bool:
    """Whether `method` has been marked with `local_execution`."""
    return getattr(method, "_is_local_execution", False) is True


_when_made: Callable[[type], None] | None = None


def when_made(hook: Callable[[type], None]) -> None:
    """Have `hook` called with each class of which the one instance is made in this process from now on."""
    global _when_made
    _when_made = hook


_substitute: Callable[[type], Any] | None = None


def substitute(hook: Callable[[type], Any]) -> None:
    """Have calling a class return what `hook` returns for it, unless that is None."""
    global _substitute
    _substitute = hook


class SingletonMetaclass(type):
    """Makes calling a class return its one instance."""

    _instances: dict[type, Any] = {}  # noqa: RUF012 - one for all classes, not one for each
    _making = threading.RLock()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if _substitute is not None and (substitute := _substitute(cls)) is not None:
            return substitute
        instances = SingletonMetaclass._instances
        if cls not in instances:
            with SingletonMetaclass._making:
                if cls not in instances:
                    instances[cls] = super().__call__(*args, **kwargs)
                    if _when_made is not None:
                        _when_made(cls)
        return instances[cls]

    def get_instance(cls: type[_T], *args: Any, **kwargs: Any) -> _T:
        """The one instance; made with these arguments if there is none yet. The same as calling the class."""
        return cls(*args, **kwargs)

    def inject_instance(cls, instance: Any) -> None:
        """Make `instance` the one instance.

        Raises RuntimeError when there is one already: whoever has it would go on using it.
        """
        with SingletonMetaclass._making:
            if cls in SingletonMetaclass._instances:
                raise RuntimeError(
                    f"{cls.__name__} has an instance already; inject one before the class is first called"
                )
            SingletonMetaclass._instances[cls] = instance

    def use_remote(cls, rpc: CallerFactory) -> None:
        """Make the other side's instance the one instance, and likewise for singletons that it refers to.

        Raises TypeError when the class is not a `ProxiedSingleton`.
        """
        callers = callers_of(cls, lambda owner: rpc.create_caller(owner, owner.get_remote_id()))
        with SingletonMetaclass._making:
            # An instance that was made while modules were imported is not the host's: it is replaced.
            for owner, caller in callers.items():
                if (made := SingletonMetaclass._instances.get(owner)) is not None:
                    _rebind(owner, made, caller)
            SingletonMetaclass._instances.update(callers)


def _rebind(cls: type, instance: Any, replacement: Any) -> None:
    """Put it where the instance is kept: ``server = Server()`` in the class's module, ``Server.instance``."""
    for holder in (sys.modules.get(cls.__module__), cls):
        for name, value in list(vars(holder).items()) if holder is not None else ():
            if value is instance:
                setattr(holder, name, replacement)


def _renew_lock() -> None:
    """In a forked process: another thread of its parent may have held it."""
    SingletonMetaclass._making = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


class ProxiedSingleton(metaclass=SingletonMetaclass):
    """Base class of the host's objects that extensions may call.

    In an extension every public method returns an awaitable, also where it is a plain function in the host,
    except those marked with `local_execution`.
    """

    @classmethod
    def get_remote_id(cls) -> str:
        """The name under which the instance is offered; by default the class's."""
        return cls.__name__


def referred(cls: type[ProxiedSingleton]) -> Iterator[tuple[str, type[ProxiedSingleton]]]:
    """(attribute, class) of the singletons that `cls` has as public attributes, annotated or assigned."""
    found: dict[str, type[ProxiedSingleton]] = {}
    for base in reversed(cls.__mro__):
        for name, hint in inspect.get_annotations(base).items():
            if isinstance(hint, str):
                hint = _evaluate(hint, base)
            if isinstance(hint, type) and issubclass(hint, ProxiedSingleton):
                found[name] = hint
        for name, value in vars(base).items():
            if isinstance(value, ProxiedSingleton):
                found[name] = type(value)
    return ((name, singleton) for name, singleton in found.items() if not name.startswith("_"))


def _evaluate(hint: str, owner: type) -> object:
    """What an annotation means; None if that cannot be told, as for names imported for type checkers."""
    module = sys.modules.get(owner.__module__)
    try:
        return eval(hint, vars(module) if module else {}, dict(vars(owner)))
    except Exception:
        return None


def reachable(cls: type[ProxiedSingleton]) -> list[type[ProxiedSingleton]]:
    """The class and all singletons that can be reached through its attributes."""
    found = [cls]
    for owner in found:
        found += dict.fromkeys(singleton for _, singleton in referred(owner) if singleton not in found)
    return found


def callers_of(
    cls: type[Any], create: Callable[[type[ProxiedSingleton]], Any]
) -> dict[type[ProxiedSingleton], Any]:
    """What `create` makes for the class and all that can be reached, with each other as attributes.

    Raises TypeError when the class is not a `ProxiedSingleton`.
    """
    if not issubclass(cls, ProxiedSingleton):
        raise TypeError(
            f"{cls.__name__} must be a subclass of ProxiedSingleton to be used from another process"
        )
    callers = {owner: create(owner) for owner in reachable(cls)}
    for owner, caller in callers.items():
        for name, singleton in referred(owner):
            setattr(caller, name, callers[singleton])
    return callers


@contextmanager
def singleton_scope() -> Iterator[None]:
    """Singletons made inside are forgotten at the end, and those from before are back. For tests."""
    before = dict(SingletonMetaclass._instances)
    try:
        yield
    finally:
        SingletonMetaclass._instances.clear()
        SingletonMetaclass._instances.update(before)
