"""Classes with encode and decode functions between a host and its extensions."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

import pyisolate
from pyisolate import Extension, Opaque, register_type
from pyisolate._rpc import registry

SOURCE = """
import pyisolate
from pyisolate import ExtensionBase, Opaque

class Cash:
    def __init__(self, amount):
        self.amount = amount

def knows(name):
    pyisolate.register_type(Cash, name=name, encode=lambda cash: cash.amount, decode=Cash)

class E(ExtensionBase):
    def knows(self, name): knows(name)
    def kind(self, value): return type(value).__name__
    def amount(self, value): return value.amount
    def make(self, amount): return Cash(amount)
    def make_all(self, amounts): return [Cash(amount) for amount in amounts]
    def keep(self, value): self.kept = value
    def give(self): return self.kept
    async def twice(self, value): return [value, value]
"""


class Money:
    def __init__(self, amount: Any) -> None:
        self.amount = amount


def register(encode: Any = lambda money: money.amount, decode: Any = Money, **options: Any) -> None:
    register_type(Money, **{"name": "money", "encode": encode, "decode": decode, **options})


def test_each_side_makes_its_own_class(plugin: Any) -> None:
    register()
    extension = plugin(SOURCE)
    extension.sync.knows("money")
    assert extension.sync.kind(Money(5)) == "Cash"
    assert extension.sync.amount(Money(5)) == 5
    made = extension.sync.make(7)
    assert type(made) is Money
    assert made.amount == 7
    first, second = asyncio.run(twice(extension))
    assert (first.amount, second.amount) == (3, 3)


async def twice(extension: Extension) -> list[Any]:
    result: list[Any] = await extension.twice(Money(3))
    return result


def test_an_extension_that_does_not_know_the_name_can_keep_it(plugin: Any) -> None:
    register()
    extension = plugin(SOURCE)
    assert extension.sync.kind(Money(5)) == "Opaque"
    extension.sync.keep({"m": Money({"x": [1, 2]})})
    assert extension.sync.give()["m"].amount == {"x": [1, 2]}
    with pytest.raises(AttributeError, match="no class is registered as 'money' in this process"):
        extension.sync.amount(Money(5))


def test_a_host_that_does_not_know_the_name_passes_it_on(plugin: Any) -> None:
    one, two = plugin(SOURCE, name="one"), plugin(SOURCE, name="two")
    for extension in (one, two):
        extension.sync.knows("cash")
    made = one.sync.make(b"x" * 100_000)
    assert type(made) is Opaque
    assert made.type_name == "cash"
    del one
    assert two.sync.kind(made) == "Cash"
    assert two.sync.amount(made) == b"x" * 100_000
    assert type(two.sync.twice(made)[1]) is Opaque


def test_a_class_that_both_sides_import(tmp_path: Path) -> None:
    program = run(
        tmp_path,
        types="""
        from pyisolate import register_type
        @register_type(encode=lambda v: v.x, decode=lambda x: Vector(x))
        class Vector:
            def __init__(self, x): self.x = x
        """,
        plugin="""
        from pyisolate import ExtensionBase
        from types_of_app import Vector
        class E(ExtensionBase):
            def double(self, vector):
                assert type(vector) is Vector
                return Vector(vector.x * 2)
        """,
        host="""
        from types_of_app import Vector
        vector = extension.sync.double(Vector(21))
        assert type(vector) is Vector
        print(vector.x)
        """,
    )
    assert (program.returncode, program.stdout) == (0, "42\n"), program.stderr


def test_a_class_of_the_main_module(tmp_path: Path) -> None:
    program = run(
        tmp_path,
        types="",
        plugin="""
        from host import Type
        class E(Type):
            def kind(self, value): return type(value).__name__
            def same(self, value): return value
        """,
        host="""
        print(extension.sync.kind(Point(1)), extension.sync.same(Point(2)).x)
        """,
        before="""
        @pyisolate.register_type(encode=lambda point: point.x, decode=lambda x: Point(x))
        class Point:
            def __init__(self, x): self.x = x
        class Type(pyisolate.ExtensionBase):  # its process imports this module
            def kind(self, value): ...
            def same(self, value): ...
        """,
        extension_type="Type",
    )
    assert (program.returncode, program.stdout) == (0, "Point 2\n"), program.stderr


def run(
    folder: Path,
    types: str,
    plugin: str,
    host: str,
    before: str = "",
    extension_type: str = "pyisolate.ExtensionBase",
) -> subprocess.CompletedProcess[str]:
    (folder / "plugin").mkdir()
    (folder / "types_of_app.py").write_text(textwrap.dedent(types))
    (folder / "plugin" / "__init__.py").write_text(textwrap.dedent(plugin))
    start = f"""
        if __name__ == "__main__":
            manager = pyisolate.ExtensionManager({extension_type}, {{"venv_root_path": "venvs"}})
            with manager:
                extension = manager.load_extension({{"name": "plugin", "module_path": "plugin"}})
    """
    text = "import pyisolate\n" + textwrap.dedent(before) + textwrap.dedent(start)
    text += textwrap.indent(textwrap.dedent(host), " " * 8)
    (folder / "host.py").write_text(text)
    return subprocess.run(
        [sys.executable, "host.py"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


# ---- failures stay with their call ----


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RecursionError(),
        SystemExit(1),
        asyncio.CancelledError(),
        StopIteration(5),
        KeyError(),
    ],
)
def test_what_decode_raises_fails_that_call_only(plugin: Any, error: BaseException) -> None:
    def decode(value: object) -> object:
        if value == "bad":
            raise error
        return Money(value)

    register(decode=decode)
    extension = plugin(SOURCE)
    extension.sync.knows("money")
    expected = (
        type(error) if isinstance(error, Exception) and not isinstance(error, StopIteration) else RuntimeError
    )
    with pytest.raises(expected) as caught:
        extension.sync.make("bad")
    assert error in (caught.value, caught.value.__cause__)

    async def both() -> None:
        results = await asyncio.gather(extension.make("bad"), extension.make(1), return_exceptions=True)
        assert type(results[0]) is expected
        assert results[1].amount == 1

    asyncio.run(both())
    assert extension.sync.make(2).amount == 2


def test_endless_recursion_in_decode(plugin: Any) -> None:
    def decode(value: object) -> object:
        return decode(value)

    register(decode=decode)
    extension = plugin(SOURCE)
    extension.sync.knows("money")
    with pytest.raises(RecursionError):
        extension.sync.make(1)
    assert extension.sync.kind(1) == "int"


def test_what_encode_raises_in_an_extension_is_raised_here(plugin: Any) -> None:
    source = (
        SOURCE
        + """
class Bad: pass
def refuse(bad): raise LookupError("of the extension")
def leave(bad): raise SystemExit(7)
pyisolate.register_type(Bad, name="bad", encode=refuse, decode=Bad)
class Worse: pass
pyisolate.register_type(Worse, name="worse", encode=leave, decode=Worse)
E.bad = lambda self: [Bad()]
E.worse = lambda self: {"x": Worse()}
"""
    )
    extension = plugin(source)
    with pytest.raises(LookupError, match="of the extension"):
        extension.sync.bad()
    with pytest.raises(RuntimeError, match="the encode function of 'worse' raised SystemExit"):
        extension.sync.worse()
    assert extension.sync.kind(1) == "int"


def test_a_call_inside_the_functions_is_refused(plugin: Any) -> None:
    called: list[str] = []

    def call(value: Any) -> Any:
        try:
            extension.sync.kind(1)
        except RuntimeError as error:
            called.append(str(error))
        return value.amount if isinstance(value, Money) else Money(value)

    register(call, call)
    extension = plugin(SOURCE)
    extension.sync.knows("money")
    assert extension.sync.amount(Money(1)) == 1
    assert extension.sync.make(2).amount == 2
    assert len(called) == 2
    assert all("inside an encode or decode function" in text for text in called)
    assert extension.sync.kind(1) == "int"


def test_other_threads_call_meanwhile(plugin: Any) -> None:
    entered, done = threading.Event(), threading.Event()
    answers: list[object] = []

    def encode(money: Money) -> Any:
        entered.set()
        assert done.wait(20)
        return money.amount

    def call() -> None:
        assert entered.wait(20)
        try:
            answers.append(extension.sync.kind(1))
        finally:
            done.set()

    register(encode)
    extension = plugin(SOURCE)
    extension.sync.kind(0)
    thread = threading.Thread(target=call)
    thread.start()
    assert extension.sync.kind(Money(1)) == "Opaque"
    thread.join()
    assert answers == ["int"]


def test_records_are_logged_inside_the_functions(plugin: Any, caplog: pytest.LogCaptureFixture) -> None:
    source = (
        SOURCE
        + """
import logging
class Loud: pass
def encode(loud):
    logging.getLogger("loud").warning("is sent")
    return 1
pyisolate.register_type(Loud, name="loud", encode=encode, decode=Loud)
E.loud = lambda self: Loud()
"""
    )
    extension = plugin(source)
    assert type(extension.sync.loud()) is Opaque
    assert eventually(lambda: "is sent" in caplog.text)


def test_an_interrupt_in_decode_reaches_the_program(plugin: Any) -> None:
    def decode(value: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
        return Money(value)

    register(decode=decode)
    extension = plugin(SOURCE)
    extension.sync.knows("money")

    def call() -> None:
        extension.sync.make(1)
        extension.sync.kind(1)

    with pytest.raises(KeyboardInterrupt):
        call()
    assert extension.sync.kind(1) == "int"


def test_stopping_inside_decode(tmp_path: Path) -> None:
    def decode(value: object) -> object:
        manager.stop_all_extensions()
        return Money(value)

    register(decode=decode)
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text(SOURCE)
    manager = pyisolate.ExtensionManager(pyisolate.ExtensionBase, {"venv_root_path": str(tmp_path / "venvs")})
    extension = manager.load_extension({"name": "plugin", "module_path": str(tmp_path / "plugin")})
    extension.sync.knows("money")
    with suppress(pyisolate.ExtensionStopped, pyisolate.ExtensionDied):
        values = ["x" * 5000, 1, b"y" * 100_000]
        assert [money.amount for money in extension.sync.make_all(values)] == values


# ---- the function itself ----


def test_it_works_as_a_decorator() -> None:
    @register_type(name="a", encode=lambda value: 1, decode=lambda value: A())
    class A:
        pass

    class B:
        pass

    assert register_type(B, encode=str, decode=str) is B
    names = registry.REGISTRY.names()
    assert "a" in names
    assert f"{__name__}:test_it_works_as_a_decorator.<locals>.B" in names


def test_a_name_alone_is_refused() -> None:
    @dataclasses.dataclass
    class D:
        x: int

    with pytest.raises(TypeError, match="a name is for classes with encode and decode"):
        register_type(D, name="d")


def test_a_module_that_is_loaded_again_replaces_its_class() -> None:
    made = [type("Same", (), {"__module__": "some.module", "__qualname__": "Same"}) for _ in range(2)]
    for cls in made:
        register_type(cls, name="same", encode=lambda value: 1, decode=lambda value, cls=cls: cls())
    decoded = pyisolate._core._decode(
        pyisolate._core._encode(made[0](), registry.REGISTRY), registry.REGISTRY
    )
    assert type(decoded) is made[1]
    with pytest.raises(ValueError, match="already registered"):
        register_type(Money, name="same", encode=str, decode=str)
