"""Of an object that the host offers, an extension calls functions that its class defines, and nothing else.

That holds for registered objects, for singletons and for references, between processes and in the host's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import Extension, Ref, _core
from pyisolate._core import Registry, Session
from pyisolate._util import no_core

OBJECT = 1

reached: list[str] = []
"""What has been evaluated or called of that which must not be."""


def reach(name: str, result: Any = None) -> Any:
    reached.append(name)
    return result


class Meta(type):
    def of_metaclass(cls) -> None:
        reach("of_metaclass")


class Callable_:
    def __call__(self, *args: object) -> None:
        reach("a callable object")


class Descriptor:
    """Evaluates something when it is looked up."""

    def __get__(self, instance: object, owner: object = None) -> Any:
        return reach("a descriptor", lambda: None)


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Base:
    def inherited(self, x: int) -> int:
        return x + 1

    def hidden(self, x: int) -> int:
        raise AssertionError

    def shadowed_by_property(self, x: int) -> int:
        raise AssertionError


class Offered(Base, metaclass=Meta):
    """Methods, and everything that looks like one."""

    def __init__(self) -> None:
        self.in_instance = lambda *args: reach("in_instance")
        self.nested_callable = Callable_()
        self.plain = lambda x: reach("the instance's plain")

    # these can be called

    def plain(self, x: int) -> int:  # type: ignore[no-redef]
        return x + 1

    async def asynchronous(self, x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    @classmethod
    def of_class(cls, x: int) -> int:
        return x + (cls is not None)

    @wrapping
    def wrapped(self, x: int) -> int:
        return x + 1

    @functools.lru_cache  # noqa: B019
    def cached(self, x: int) -> int:
        return x + 1

    def _add(self, y: int, x: int) -> int:
        return x + y

    partial_method = functools.partialmethod(_add, 1)

    @functools.singledispatchmethod
    def dispatched(self, x: object) -> int:
        raise AssertionError

    @dispatched.register
    def _(self, x: int) -> int:
        return x + 1

    alias = plain
    function_of_c = staticmethod({2: 3}.get)

    # these cannot

    hidden = None  # type: ignore[assignment]

    @property
    def shadowed_by_property(self) -> Any:  # type: ignore[override]
        return reach("shadowed_by_property", lambda x: x)

    @property
    def a_property(self) -> Any:
        return reach("a_property", lambda *args: None)

    @functools.cached_property
    def a_cached_property(self) -> Any:
        return reach("a_cached_property", lambda *args: None)

    callable_attribute = Callable_()
    static_callable = staticmethod(Callable_())
    class_callable = classmethod(Callable_())  # type: ignore[arg-type]
    a_descriptor = Descriptor()
    a_partial = functools.partial(reach, "a_partial")
    a_class = int
    static_class = staticmethod(int)

    class Nested:
        def __init__(self, *args: object) -> None:
            reach("Nested")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return reach("__getattr__", lambda *args: None)


METHODS = [
    *("plain", "asynchronous", "static", "of_class", "wrapped", "cached", "partial_method", "dispatched"),
    *("alias", "function_of_c", "inherited"),
]
OTHERS = [
    *("hidden", "shadowed_by_property", "a_property", "a_cached_property", "callable_attribute"),
    *("static_callable", "class_callable", "a_descriptor", "a_partial", "a_class", "static_class", "Nested"),
    *("in_instance", "nested_callable", "of_metaclass", "mro", "by_getattr", "missing"),
]
PRIVATE = ["_add", "__init__", "__class__", "__dict__", "__reduce_ex__", "__getattribute__", "_", ""]


@pytest.fixture(autouse=True)
def nothing_is_reached() -> Any:
    reached.clear()
    yield
    assert reached == []


@pytest.fixture(params=[_core, no_core], ids=["core", "no core"])
def core(request: pytest.FixtureRequest) -> Any:
    """The C module, and what stands in for it where it does not exist."""
    return request.param


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_found(core: Any, name: str) -> None:
    result = core.defined_method(Offered(), name)(2)
    assert (asyncio.run(result) if name == "asynchronous" else result) == 3


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_found(core: Any, name: str) -> None:
    with pytest.raises(AttributeError, match=f"'{name}' is not a method of .*Offered"):
        core.defined_method(Offered(), name)


def test_a_reference_permits_methods_only(core: Any) -> None:
    assert core.Ref(Offered(), methods=METHODS).methods == tuple(sorted(METHODS))
    for name in [*OTHERS, *PRIVATE]:
        with pytest.raises(ValueError, match=r"cannot be a method|is not a method"):
            core.Ref(Offered(), methods=[name])


def test_methods_of_builtin_types(core: Any) -> None:
    assert core.defined_method([3], "append")(4) is None
    assert core.defined_method({1: 2}, "get")(1) == 2
    assert core.defined_method(b"", "fromhex")("00") == b"\0"
    for value, name in ((1, "real"), (1j, "imag"), (range(3), "stop"), (int, "from_bytes")):
        with pytest.raises(AttributeError):
            core.defined_method(value, name)


PLUGIN = """
from pyisolate import ExtensionBase

class E(ExtensionBase):
    async def reach(self, kind, name, singleton, *args):
        proxy = self.create_caller(kind, "offered") if kind else None
        return await getattr(proxy, name)(*args)

    async def try_each(self, names):
        from offered_names import Names
        proxy = self.create_caller(Names, "offered")
        results = {}
        for name in names:
            try:
                results[name] = await getattr(proxy, name)(2)
            except (AttributeError, LookupError) as error:
                results[name] = type(error).__name__
        return results
"""
NAMES = """
class Names:
    pass

def method(*args): ...

for name in {names!r}:
    setattr(Names, name, method)
"""


@pytest.mark.parametrize("isolated", [True, False])
def test_objects_that_are_registered(plugin: Callable[..., Extension], tmp_path: Any, isolated: bool) -> None:
    """The extension's class for the proxy claims that each name is a method."""
    names = [*METHODS, *OTHERS]
    source = NAMES.format(names=names) + PLUGIN.replace("        from offered_names import Names\n", "")
    extension = plugin(source, isolated=isolated)
    extension.register_callee(Offered(), "offered")
    found = extension.sync.try_each(names)
    assert found == {name: 3 if name in METHODS else "AttributeError" for name in names}


def test_objects_of_an_extension_are_called_as_they_are(plugin: Callable[..., Extension]) -> None:
    """The host is trusted by its extensions: it calls functions in attributes, too."""
    extension = plugin(
        """
        from pyisolate import ExtensionBase

        class E(ExtensionBase):
            async def on_module_loaded(self, module):
                self.of_instance = lambda x: x + 1
        """
    )
    extension.ensure_process_started()
    assert extension.sync.of_instance(1) == 2


def test_a_hostile_peer_calls_by_name() -> None:
    """Without a proxy, which would refuse some names itself."""

    async def main() -> None:
        host, child = Session.pair(Registry())
        model = Offered()
        host_object = Ref(model, methods=["plain"])
        kept: list[Any] = []

        class Service:
            def keep(self, value: object) -> None:
                kept.append(value)

        child.register(OBJECT, Service())
        child.serve()
        await host.method(OBJECT, "keep")(host_object)
        for name in [*METHODS[1:], *OTHERS, *PRIVATE[:-1]]:
            with pytest.raises(AttributeError):
                await child.method(0x80000000, name)(2)
        assert await child.method(0x80000000, "plain")(2) == 3
        Offered.plain = property(lambda self: reach("a property that came later"))  # type: ignore
        with pytest.raises(AttributeError):
            await child.method(0x80000000, "plain")(2)
        host.close()

    plain = Offered.plain
    try:
        asyncio.run(main())
    finally:
        Offered.plain = plain  # type: ignore[method-assign]
