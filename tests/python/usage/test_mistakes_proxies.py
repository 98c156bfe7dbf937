"""Proxies, methods and calls that are used like the values that they stand for."""

from __future__ import annotations

import asyncio
import gc
import logging
import operator
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import Any

import host_side
import pytest

from pyisolate import Extension, ExtensionBase, ExtensionManager, register_type
from pyisolate._rpc.loader import HIDDEN_NAMES
from pyisolate._rpc.proxies import Proxy

Plugin = Callable[..., Any]

PLUGIN = """
import time
from host_side import Counter
from pyisolate import ExtensionBase

class E(ExtensionBase):
    threshold = 5

    def __init__(self):
        self.enabled = True

    def run(self, value=None):
        return value

    async def arun(self, value=None):
        return value

    def learn(self):
        self.learnt = lambda: "learnt"
        type(self).of_class = lambda self: "of class"

    def sleep(self, seconds):
        time.sleep(seconds)

    def use(self, how):
        try:
            exec(how, {"call": Counter().add(1)})
        except Exception as error:
            return f"{type(error).__name__}: {error}"
"""


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def extension(plugin: Plugin, request: pytest.FixtureRequest) -> Any:
    return plugin(PLUGIN, isolated=request.param, apis=[host_side.Counter])


# ---- the extension ----


def test_attributes_cannot_be_set(extension: Any) -> None:
    for loaded in (False, True):
        if loaded:
            extension.ensure_process_started()
        for proxy in (extension, extension.sync, extension.with_timeout(5)):
            for name in ("threshold", "run", "nosuch", "name", "config", "generation", "stop"):
                with pytest.raises(
                    AttributeError, match=f"'{name}' cannot be set .*'plugin'.* a method that"
                ):
                    setattr(proxy, name, 5)
    assert extension.name == "plugin"
    assert extension.sync.run(1) == 1


def test_an_extension_has_what_it_has(extension: Any) -> None:
    assert hasattr(extension, "nosuch"), "not known before it is loaded"
    extension.ensure_process_started()
    for proxy in (extension, extension.sync, extension.with_timeout(5)):
        assert not hasattr(proxy, "nosuch")
        assert not hasattr(proxy, "_private")
        assert all(hasattr(proxy, name) for name in ("run", "threshold", "enabled", "on_module_loaded"))
    with pytest.raises(AttributeError, match="'E' object has no attribute 'runn'"):
        extension.sync.runn()
    assert getattr(extension, "nosuch", None) is None


def test_what_it_gets_later_can_be_called(extension: Any) -> None:
    extension.ensure_process_started()
    assert not hasattr(extension, "learnt")
    extension.sync.learn()
    assert hasattr(extension, "learnt")
    assert extension.sync.learnt() == "learnt"
    assert extension.sync.of_class() == "of class"


def test_a_busy_extension_is_not_waited_for(plugin: Plugin) -> None:
    extension = plugin(PLUGIN)

    async def main() -> None:
        await extension
        busy = extension.sleep(1.0)
        assert hasattr(extension, "nosuch"), "it cannot say"
        await busy

    asyncio.run(main())


def test_methods_are_suggested(plugin: Plugin) -> None:
    extension = plugin(PLUGIN)
    extension.ensure_process_started()
    with pytest.raises(AttributeError, match=r"'threshhold'; did you mean 'threshold'\?"):
        _ = extension.threshhold


def test_names_that_an_extension_tells_are_bounded(plugin: Plugin) -> None:
    source = r"""
    from pyisolate import ExtensionBase
    class E(ExtensionBase):
        def __dir__(self):
            return [1, "x" * 1_000_000, *map(str, range(1_000_000))]
        def run(self):
            return 1
        def __getattr__(self, name):
            if name == "made":
                return lambda: "made"
            raise AttributeError("\x1b[31m" + name)
    E.__name__ = "\x1b[31mE" * 1000
    """
    extension = plugin(source)
    assert extension.sync.run() == 1
    assert extension.sync.made() == "made"
    with pytest.raises(AttributeError, match="no attribute 'nosuch'") as caught:
        _ = extension.nosuch
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000


# ---- methods ----

USES: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "not": operator.not_,
    "len": len,
    "int": int,
    "float": float,
    "index": operator.index,
    "greater": lambda one: one > 3,
    "less": lambda one: one < 3,
    "reflected": lambda one: sorted([3, one]),
    "add": lambda one: one + 1,
    "radd": lambda one: "a" + one,
    "item": lambda one: one["a"],
    "in": lambda one: 3 in one,
    "divide": lambda one: 10 / one,
    "range": range,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_method_is_no_value(extension: Any, use: Callable[[Any], Any]) -> None:
    for loaded in (False, True):
        if loaded:
            extension.ensure_process_started()
        for name in ("run", "threshold", "enabled"):
            with pytest.raises(TypeError, match=f"'{name}' is a remote method, not a value: .* by a method"):
                use(getattr(extension, name))


def test_methods_can_be_compared_and_kept(extension: Any) -> None:
    extension.ensure_process_started()
    methods = {extension.run: 1, extension.arun: 2}
    assert methods[extension.run] == 1
    assert extension.run == extension.run
    assert extension.run != extension.arun
    assert extension.run in [extension.run]


# ---- calls ----


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_call_is_no_value(extension: Any, use: Callable[[Any], Any]) -> None:
    async def main() -> None:
        await extension
        for name in ("run", "arun"):
            call = getattr(extension, name)(4)
            with pytest.raises(TypeError, match=f"the call of '{name}' .* 'await' .*'.sync'"):
                use(call)
            assert await call == 4

    asyncio.run(main())


@pytest.mark.parametrize("how", ["call + 1", "call['a']", "call > 3", "if call: pass", "len(call)", "-call"])
def test_a_call_of_a_singleton_is_no_value(plugin: Plugin, how: str) -> None:
    told = plugin(PLUGIN, apis=[host_side.Counter]).sync.use(how)
    assert told.startswith("TypeError: the call of 'add' ")
    assert "write 'await' before it, or call it with '.sync'" in told


def test_an_attribute_of_a_call(plugin: Plugin) -> None:
    told = plugin(PLUGIN, apis=[host_side.Counter]).sync.use("call.real")
    assert told.startswith("AttributeError: the call of 'add' is not its result")


def test_calls_can_be_compared_and_kept(plugin: Plugin) -> None:
    extension = plugin(PLUGIN)

    async def main() -> None:
        await extension
        calls = {extension.run(number): number for number in range(3)}
        for call, number in calls.items():
            assert call in calls
            assert call != number
            assert await call == number

    asyncio.run(main())


def test_misuse_keeps_nothing(plugin: Plugin) -> None:
    extension = plugin(PLUGIN)
    extension.ensure_process_started()

    def use_all() -> None:
        for use in USES.values():
            with pytest.raises(TypeError):
                use(extension.run)

    use_all()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(100):
        use_all()
    gc.collect()
    assert len(gc.get_objects()) < before + 100


# ---- names that are hidden ----


def test_the_names_of_the_proxy_are_known() -> None:
    of_class = {name for cls in (Extension, Proxy) for name in dir(cls) if not name.startswith("_")}
    assert of_class | {"name", "config"} == HIDDEN_NAMES


@pytest.mark.parametrize("name", sorted(HIDDEN_NAMES - {"stop", "register_callee", "create_caller"}))
@pytest.mark.parametrize("isolated", [True, False])
def test_a_method_that_the_proxy_hides_is_told(
    plugin: Plugin, name: str, isolated: bool, caplog: Any
) -> None:
    source = f"""
    from pyisolate import ExtensionBase
    class Base(ExtensionBase):
        def {name}(self, value): return value
    class E(Base): pass
    """
    extension = plugin(source, isolated=isolated)
    extension.ensure_process_started()
    extension.stop()
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"the host cannot call the method '{name}' of E" in told
    assert "rename it" in told


def test_a_stop_that_takes_arguments_is_told(plugin: Plugin, caplog: Any) -> None:
    source = """
    from pyisolate import ExtensionBase
    class E(ExtensionBase):
        def stop(self, engine): return engine
    """
    extension = plugin(source, isolated=False)
    extension.ensure_process_started()
    (told,) = caplog.messages
    assert "'stop' of E" in told
    assert "called, without arguments, when the process ends" in told


@pytest.mark.parametrize(
    "body", ["stop = None", "def stop(self, now=True): pass", "async def stop(self): pass"]
)
def test_hooks_and_attributes_are_not_told(plugin: Plugin, body: str, caplog: Any) -> None:
    source = f"""
    from pyisolate import ExtensionBase
    class E(ExtensionBase):
        {body}
        config = {{"a": 1}}
        @property
        def name(self): return "own"
        def __init__(self): self.generation = 3
    """
    extension = plugin(source)
    extension.ensure_process_started()
    extension.stop()
    assert not caplog.messages


# ---- wrong types for methods of ours ----

SECONDS = "a timeout must be a positive number of seconds or None, not "
WRONG: list[tuple[Callable[[Any, Any], Any], type[Exception], str]] = [
    (lambda e, m: e.with_timeout("x"), TypeError, f"{SECONDS}'x'"),
    (lambda e, m: e.with_timeout(True), TypeError, f"{SECONDS}True"),
    (lambda e, m: e.with_timeout(timedelta(1)), TypeError, SECONDS),
    (lambda e, m: e.with_timeout(0), ValueError, f"{SECONDS}0"),
    (lambda e, m: e.with_timeout(float("nan")), ValueError, f"{SECONDS}nan"),
    (lambda e, m: e.sync.with_timeout("x"), TypeError, SECONDS),
    (lambda e, m: e.register_event_handler("a", None), TypeError, "'a' must be a function"),
    (lambda e, m: e.register_event_handler(None, print), TypeError, "name of an event must be a string"),
    (lambda e, m: e.register_callee(object(), 4), TypeError, "must be a string, not 4"),
    (lambda e, m: e.register_callee(None, "x"), TypeError, "'x' must be an object with methods"),
    (lambda e, m: e.register_callee(dict, "x"), TypeError, "'x' must be an object with methods"),
    (lambda e, m: e.create_caller("x", "y"), TypeError, "the class of the object first"),
    (lambda e, m: e.create_caller(dict, 3), TypeError, "must be a string, not 3"),
    (lambda e, m: m.preload("name"), TypeError, r"preload\(\['name'\]\)"),
    (lambda e, m: m.preload({"name": "x"}), TypeError, "preload takes a list"),
    (lambda e, m: m.preload([3]), ValueError, "must be a dictionary, not int"),
    (lambda e, m: m.load_extension("plugin"), ValueError, "must be a dictionary, not str"),
    (lambda e, m: m.stop_extension("x"), ValueError, "'x' is not loaded"),
    (lambda e, m: register_type(3), TypeError, "takes a class, not 3"),  # type: ignore[type-var]
]


def test_wrong_types(extension: Any, venvs: Any) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    for act, error, text in WRONG:
        with pytest.raises(error, match=text):
            act(extension, manager)
    assert extension.with_timeout(Fraction(30)).sync.run(1) == 1
