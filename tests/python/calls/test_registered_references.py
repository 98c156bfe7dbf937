"""Classes whose instances are sent by reference, and what else is sent by reference by itself."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import enum
import inspect
import pickle
import pydoc
import typing
from collections.abc import Callable
from typing import Any

import pytest

import pyisolate
from pyisolate import Ref, register_type
from pyisolate._core import Registry, Session

OBJECT = 1


class Model:
    size = 3

    def predict(self, x: int) -> int:
        return 2 * x

    @property
    def weight(self) -> int:
        raise AssertionError("a property was evaluated")

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    def secret(self) -> str:
        return "secret"


class Deeper(Model):
    def predict(self, x: int) -> int:
        return 3 * x


class Broken(Model):
    predict = property(lambda self: 1 / 0)  # type: ignore[assignment]


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


class Many(list):  # type: ignore[type-arg]
    pass


class Service:
    kept: Any = None

    def keep(self, value: Any) -> str:
        self.kept = value
        return type(value).__name__

    def give(self) -> Any:
        return self.kept


def run(test: Callable[[Any, Service], Any], **registered: Any) -> None:
    """Call `test` with a function that calls the service, and the service."""

    async def main() -> None:
        registry = Registry()
        cls = registered.pop("cls", Model)
        registry.register(cls, "model", **registered)
        host, child = Session.pair(registry, Registry())
        service = Service()
        child.register(OBJECT, service)
        child.serve()
        try:
            await test(lambda name, *args: host.method(OBJECT, name)(*args), service)
        finally:
            host.close()

    asyncio.run(main())


def test_an_instance_is_a_token() -> None:
    async def test(call: Any, service: Service) -> None:
        model = Model()
        assert await call("keep", [model]) == "list"
        token = service.kept[0]
        assert isinstance(token, Ref)
        assert (token.type_name, token.methods) == ("Model", ())
        assert (await call("give"))[0] is model
        await call("keep", model)
        assert service.kept is token

    run(test, by_ref=True)


def test_an_instance_is_called() -> None:
    async def test(call: Any, service: Service) -> None:
        model = Model()
        await call("keep", model)
        assert service.kept.methods == ("predict", "static")
        assert await service.kept.predict(4) == 8
        assert await service.kept.static(4) == 5
        with pytest.raises(AttributeError, match="'secret' is not among"):
            service.kept.secret  # noqa: B018
        ref, service.kept = service.kept, None
        await call("keep", Ref(model, methods=["static", "predict"]))
        assert service.kept is ref, "as a Ref would be"
        await call("keep", Ref(model))
        assert service.kept is not ref

    run(test, by_ref=iter(["static", "predict", "static"]))


@pytest.mark.parametrize("subclasses", [True, False])
def test_subclasses(subclasses: bool) -> None:
    async def test(call: Any, service: Service) -> None:
        if not subclasses:
            with pytest.raises(TypeError, match=r"'.*Deeper' cannot be sent"):
                await call("keep", Deeper())
            return
        deeper, broken = Deeper(), Broken()
        await call("keep", deeper)
        assert service.kept.type_name == "Deeper"
        assert await service.kept.predict(2) == 6
        assert await call("give") is deeper
        await call("keep", broken)
        with pytest.raises(AttributeError, match=r"'predict' is not a method of .*Broken"):
            await service.kept.predict(2)

    run(test, by_ref=["predict"], subclasses=subclasses)


@pytest.mark.parametrize("value", [Point(1), Colour.RED, Many([1]), ValueError("not raised")])
def test_any_class_can_be_sent_by_reference(value: object) -> None:
    async def test(call: Any, service: Service) -> None:
        assert await call("keep", value) == "Ref"
        assert await call("give") is value

    run(test, cls=type(value), by_ref=True)


@pytest.mark.parametrize(
    ("by_ref", "error"),
    [
        (["nothing"], ValueError),
        (["size"], ValueError),
        (["weight"], ValueError),
        (["_private"], ValueError),
        (["__init__"], ValueError),
        (["release"], ValueError),
        ("predict", TypeError),
        ([1], TypeError),
        (1, TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_method_is_refused_when_it_is_registered(by_ref: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        register_type(Model, by_ref=by_ref)
    with pytest.raises(error):
        Registry().register(Model, "model", by_ref=by_ref)


def test_permitted() -> None:
    registry = Registry()
    registry.register(Model, "model", by_ref=["predict"], subclasses=True)
    registry.register(Point, "point", by_ref=True)
    registry.register(Colour, "colour")
    assert registry.permitted(Model) == registry.permitted(Deeper) == ("predict",)
    assert registry.permitted(Point) == ()
    assert registry.permitted(Colour) is registry.permitted(int) is None


# ---- methods of proxies ----


class Other:
    async def double(self, x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x


@pytest.mark.parametrize("sync", [True, False])
def test_a_method_of_one_peer_is_sent_to_another(sync: bool) -> None:
    """Whether its calls block here is not the receiver's business: called there, it blocks no loop here."""

    async def main() -> None:
        here, other = Session.pair(Registry())
        other.register(OBJECT, Other())
        other.serve()

        async def test(call: Any, service: Service) -> None:
            method = here.method(OBJECT, "double", sync=sync)
            assert await call("keep", method) == "RemoteFunction"
            first = service.kept
            assert first.__name__ == "double"
            assert await first(4) == 8
            await call("keep", method)
            assert service.kept is first
            home = await call("give")
            assert await home(5) == 10
            assert home is method or sync
            del service.kept

        registry = Registry()
        host, child = Session.pair(registry)
        service = Service()
        child.register(OBJECT, service)
        child.serve()
        await test(lambda name, *args: host.method(OBJECT, name)(*args), service)
        host.close()
        here.close()

    asyncio.run(main())


# ---- copies ----


def test_nothing_that_belongs_to_a_process_is_copied(load: Callable[..., Any]) -> None:
    import host_side

    extension = load("echo")
    here = load("echo", name="here", isolated=False)

    async def main() -> None:
        call, local_call = extension.echo(1), here.echo(1)
        objects = [
            extension,
            extension.sync,
            extension.with_timeout(3),
            extension.echo,
            extension.sync.echo,
            extension.create_caller(host_side.Board, "board"),
            here,
            here.echo,
            here.sync.echo,
            call,
            local_call,
        ]
        for value in objects:
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=r"cannot be copied or pickled, because .*: .*"):
                    duplicate(value)
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    duplicate({"nested": [value]}) if duplicate is not copy.copy else duplicate(value)
        await call
        await local_call

    extension.ensure_process_started()
    asyncio.run(main())


# ---- annotations and help ----


def test_annotations_can_be_evaluated() -> None:
    namespace: dict[str, Any] = {"pyisolate": pyisolate, "Callable": Callable}
    exec(
        "def f(a: pyisolate.Ref[int], b: pyisolate.Ref[int] | None, c: pyisolate.RemoteFunction | None) -> "
        "list[pyisolate.Ref[int]]: ...",
        namespace,
    )
    hints = typing.get_type_hints(namespace["f"])
    assert hints["a"] == pyisolate.Ref[int]
    assert typing.get_origin(hints["a"]) is pyisolate.Ref
    assert typing.get_args(hints["c"]) == (pyisolate.RemoteFunction, type(None))


@pytest.mark.parametrize("cls", [pyisolate.Ref, pyisolate.RemoteFunction])
def test_help(cls: Any) -> None:
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 102
    assert "with_timeout(self, seconds, /)" in text
    assert "release(self, /)" in text
    assert str(inspect.signature(pyisolate.Ref)) == "(obj, methods=())"
