"""Classes that hosts share with their extensions: extension types, singletons, registered classes."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import enum
import json
import os
import threading
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, NamedTuple

from pyisolate import ExtensionBase, ProxiedSingleton, local_execution


class Hooked(ExtensionBase):
    """Records which hooks have run."""

    def __init__(self) -> None:
        super().__init__()
        self.order = ["init"]

    async def before_module_loaded(self) -> None:
        self.order.append("before")

    async def on_module_loaded(self, module: ModuleType) -> None:
        self.module = module
        self.order.append(module.__name__)

    def hooks(self) -> list[str]:
        return self.order

    def version(self, name: str = "rivet") -> str:
        return str(__import__(name).VERSION)

    def file(self, name: str) -> str:
        return str(__import__(name).__file__)


class Setting(ExtensionBase):
    """Has a hook that sets attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = self.replaced = "by init"

    async def before_module_loaded(self) -> None:
        self.set = self.replaced = "by the hook"


class Abstract(ExtensionBase, ABC):
    """Leaves a method abstract, for the module's class."""

    @abstractmethod
    def work(self) -> str: ...


class PlainHooks(ExtensionBase):
    """Hooks that are not coroutines."""

    def before_module_loaded(self) -> None:  # type: ignore[override]
        self.order = ["before"]

    def on_module_loaded(self, module: ModuleType) -> None:  # type: ignore[override]
        self.order.append("loaded")

    def stop(self) -> None:  # type: ignore[override]
        self.emit_event("stopping", self.order)

    def hooks(self) -> list[str]:
        return self.order


class SlowStop(ExtensionBase):
    async def stop(self) -> None:
        await asyncio.sleep(600)

    def pid(self) -> int:
        return os.getpid()


class Counter(ProxiedSingleton):
    """A singleton with state, a plain method, an async one, and one that runs in the caller's process."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.seen: list[Any] = []

    def add(self, number: int) -> int:
        self.count += number
        return self.count

    async def add_later(self, number: int) -> int:
        await asyncio.sleep(0.01)
        return self.add(number)

    async def call_back(self, number: int) -> Any:
        """Calls its caller, the extension, from the host."""
        return await self.seen[0].double(number)

    def pid(self) -> int:
        return os.getpid()

    def thread(self) -> str:
        return threading.current_thread().name

    def _secret(self) -> str:
        return "secret"

    @local_execution
    def here(self) -> int:
        return os.getpid()

    @local_execution
    def increment(self) -> int:
        self.count += 1
        return self.count


class Slow(ProxiedSingleton):
    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.most_waiting = 0

    async def wait(self, seconds: float) -> str:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        await asyncio.sleep(seconds)
        self.waiting -= 1
        return "waited"


class Part(ProxiedSingleton):
    def name(self) -> str:
        return f"part of {os.getpid()}"


class Whole(ProxiedSingleton):
    part: Part

    def __init__(self) -> None:
        super().__init__()
        self.part = Part()

    def pid(self) -> int:
        return os.getpid()


class Kept(ProxiedSingleton):
    """A singleton of which the module makes the instance, as programs did before they had extensions."""

    instance: Any

    def pid(self) -> int:
        return os.getpid()


kept = Kept.instance = Kept()


class Unoffered(ProxiedSingleton):
    def pid(self) -> int:
        return os.getpid()


class Colour(enum.Enum):
    RED = 1


class Late(enum.Enum):
    NEVER = 1


@dataclasses.dataclass
class Point:
    x: int
    colour: Colour


class Pixel(NamedTuple):
    x: int
    colour: Colour


class BadImage(Exception):
    pass


class Registered(Exception):
    """A class that the host has registered."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Unregistered(Exception):
    def __init__(self, text: str) -> None:
        super().__init__("more than text", {"password": "hunter2"})
        self.text = text
        self.secret = "hunter2"

    def __str__(self) -> str:
        return self.text


class Opaque:
    """An object that hides attributes."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<opaque>"


class Told(ProxiedSingleton):
    """Raises exceptions with a secret, ``hunter2``, that is not in their text."""

    def plain(self) -> None:
        raise ValueError("no")  # the password is hunter2

    def caused(self) -> None:
        try:
            raise LookupError("hunter2")
        except LookupError as error:
            raise ValueError("no") from error

    def handled(self) -> None:
        try:
            raise LookupError("hunter2")
        except LookupError:
            raise ValueError("no")  # noqa: B904

    def attributes(self) -> None:
        error = ValueError("no")
        error.secret = "hunter2"  # type: ignore[attr-defined]
        raise error

    def notes(self) -> None:
        error = ValueError("no")
        if hasattr(error, "add_note"):
            error.add_note("hunter2")
        raise error

    def arguments(self) -> None:
        raise ValueError(Opaque("hunter2"), 1)

    def unregistered(self) -> None:
        raise Unregistered("no")

    def registered(self) -> None:
        try:
            raise LookupError("hunter2")
        except LookupError as error:
            raise Registered(7) from error  # hunter2

    def undecodable(self) -> None:
        b"hunter2 \xff hunter2".decode()

    def unencodable(self) -> None:
        "hunter2 \xff hunter2".encode("ascii")

    def syntax(self) -> None:
        compile("hunter2 = =", "settings.py", "exec")

    def json(self) -> None:
        json.loads("{'password': 'hunter2'}")

    def attribute(self) -> None:
        {"password": "hunter2"}.get_it  # type: ignore[attr-defined]  # noqa: B018

    def missing(self) -> None:
        os.stat("/no/such/file")

    def key(self) -> None:
        {"password": "hunter2"}["user"]

    def group(self) -> None:
        inner = ValueError("no")
        inner.secret = "hunter2"  # type: ignore[attr-defined]
        raise vars(builtins)["ExceptionGroup"]("both", [inner, Unregistered("no")])

    async def later(self) -> None:
        await asyncio.sleep(0)
        self.unregistered()


class Board:
    """Registered with register_callee."""

    def write(self, text: str) -> str:
        return f"{os.getpid()}: {text}"


class Gate(ProxiedSingleton):
    """Opens when the expected number have arrived; records what else is reported to it."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 1
        self.left = 0
        self.notes: list[Any] = []
        self.threads: list[str] = []
        self._open = asyncio.Event()

    async def arrive(self) -> None:
        self.left += 1
        if self.left >= self.wanted:
            self._open.set()
        await self._open.wait()

    def note(self, what: Any) -> None:
        self.threads.append(threading.current_thread().name)
        self.notes.append(what)

    def began(self, what: str) -> None:
        self.notes.append(what)
