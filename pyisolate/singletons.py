"""Singletons of the host that extensions use as if they were their own.

In the host a `ProxiedSingleton` class creates its only instance when it is first called. In an extension
whose configuration lists the class under ``apis``, calling the class returns a proxy for the host's instance.
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
    """The argument of `use_remote`: it creates proxies for objects of the other side."""

    def create_caller(self, object_type: type[_T], object_id: str) -> _T: ...


def local_execution(func: _F) -> _F:
    """Mark a method of a `ProxiedSingleton` to run in the calling process, on an instance there."""
    func._is_local_execution = True  # type: ignore[attr-defined]
    return func


def is_local(method: object) -> bool:
    """Return whether `method` is marked with `local_execution`."""
    return getattr(method, "_is_local_execution", False) is True


_creation_hook: Callable[[type], None] | None = None


def set_creation_hook(hook: Callable[[type], None]) -> None:
    """Call `hook` with each singleton class whose instance is created in this process from now on."""
    global _creation_hook
    _creation_hook = hook


_substitution_hook: Callable[[type], Any] | None = None


def set_substitution_hook(hook: Callable[[type], Any]) -> None:
    """Make calling a singleton class return what `hook` returns for the class, unless that is None."""
    global _substitution_hook
    _substitution_hook = hook


class SingletonMetaclass(type):
    """Makes calling a class return its only instance."""

    _instances: dict[type, Any] = {}  # noqa: RUF012 - one for all classes, not one for each
    _lock = threading.RLock()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if _substitution_hook is not None and (substitute := _substitution_hook(cls)) is not None:
            return substitute
        instances = SingletonMetaclass._instances
        if cls not in instances:
            with SingletonMetaclass._lock:
                if cls not in instances:
                    instances[cls] = super().__call__(*args, **kwargs)
                    if _creation_hook is not None:
                        _creation_hook(cls)
        return instances[cls]

    def get_instance(cls: type[_T], *args: Any, **kwargs: Any) -> _T:
        """Return the instance, created with these arguments if there is none. Same as calling the class."""
        return cls(*args, **kwargs)

    def inject_instance(cls, instance: Any) -> None:
        """Make `instance` the only instance.

        Raises RuntimeError if there already is one: code that holds it would continue to use it.
        """
        with SingletonMetaclass._lock:
            if cls in SingletonMetaclass._instances:
                raise RuntimeError(
                    f"{cls.__name__} already has an instance; inject one before the class is first called"
                )
            SingletonMetaclass._instances[cls] = instance

    def use_remote(cls, rpc: CallerFactory) -> None:
        """Make the other side's instance the only instance, and likewise for singletons that it refers to.

        Raises TypeError if the class is not a `ProxiedSingleton`.
        """
        callers = create_callers(cls, lambda owner: rpc.create_caller(owner, owner.get_remote_id()))
        with SingletonMetaclass._lock:
            # An instance created while modules were imported is not the host's: it is replaced.
            for owner, caller in callers.items():
                if (created := SingletonMetaclass._instances.get(owner)) is not None:
                    _rebind(owner, created, caller)
            SingletonMetaclass._instances.update(callers)


def _rebind(cls: type, instance: Any, replacement: Any) -> None:
    """Replace the instance in the class and its module: ``Server.instance``, ``server = Server()``."""
    for holder in (sys.modules.get(cls.__module__), cls):
        for name, value in list(vars(holder).items()) if holder is not None else ():
            if value is instance:
                setattr(holder, name, replacement)


def _renew_lock() -> None:
    """Replace the lock in a forked process: another thread of its parent may have held it."""
    SingletonMetaclass._lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


class ProxiedSingleton(metaclass=SingletonMetaclass):
    """Base class of the host's objects that extensions may call.

    In an extension every public method returns an awaitable, even if it is a plain function in the host.
    Methods marked with `local_execution` are the exception.
    """

    @classmethod
    def get_remote_id(cls) -> str:
        """Return the id under which the host registers the instance; by default the name of the class."""
        return cls.__name__


def singleton_attributes(cls: type[ProxiedSingleton]) -> Iterator[tuple[str, type[ProxiedSingleton]]]:
    """Iterate over (attribute, class) of singletons in public attributes of `cls`, annotated or assigned."""
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
    """Evaluate an annotation. Return None if that fails, as for names imported only for type checkers."""
    module = sys.modules.get(owner.__module__)
    try:
        return eval(hint, vars(module) if module else {}, dict(vars(owner)))
    except Exception:
        return None


def reachable_singletons(cls: type[ProxiedSingleton]) -> list[type[ProxiedSingleton]]:
    """Return the class and all singletons that can be reached through its attributes."""
    found = [cls]
    for owner in found:
        found += dict.fromkeys(
            singleton for _, singleton in singleton_attributes(owner) if singleton not in found
        )
    return found


def create_callers(
    cls: type[Any], create: Callable[[type[ProxiedSingleton]], Any]
) -> dict[type[ProxiedSingleton], Any]:
    """Call `create` for the class and all reachable singletons, and return the results by class.

    Each result has those of its singleton attributes as attributes. Raises TypeError if the class is not a
    `ProxiedSingleton`.
    """
    if not issubclass(cls, ProxiedSingleton):
        raise TypeError(
            f"{cls.__name__} cannot be used from another process: derive it from ProxiedSingleton"
        )
    callers = {owner: create(owner) for owner in reachable_singletons(cls)}
    for owner, caller in callers.items():
        for name, singleton in singleton_attributes(owner):
            setattr(caller, name, callers[singleton])
    return callers


@contextmanager
def singleton_scope() -> Iterator[None]:
    """Restore the previous singletons at the end of the ``with`` block, without new ones. For tests."""
    before = dict(SingletonMetaclass._instances)
    try:
        yield
    finally:
        SingletonMetaclass._instances.clear()
        SingletonMetaclass._instances.update(before)
