"""Arrays of packages other than NumPy and PyTorch keep their type, if the receiver has the package."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyisolate._core import ExtensionDied, ExtensionStopped, Registry, Session

HAS_JAX = importlib.util.find_spec("jax") is not None


class StandInArray:
    """An array of a package whose memory the CPU cannot access, as CuPy's."""

    def __init__(self, array: Any) -> None:
        self.array = array


class Peer:
    def echo(self, value: object) -> object:
        return value


@pytest.fixture
def echo() -> Iterator[Callable[[Any], Any]]:
    """echo(value): the value after a round trip between the two ends of a session."""
    host, child = Session.pair(Registry())
    child.register(1, Peer())
    wait = child.method(1, "nothing", sync=True, timeout=60)

    def serve() -> None:  # a thread that waits for a reply handles requests meanwhile
        with suppress(ExtensionDied, ExtensionStopped, LookupError):
            wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield host.method(1, "echo", sync=True, timeout=20)
    host.close()
    thread.join(20)
    child.close()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package in place of CuPy, which needs a GPU."""
    package: Any = ModuleType("cupy")
    package.ndarray = StandInArray
    package.asnumpy = lambda array: array.array
    package.asarray = StandInArray
    monkeypatch.setitem(sys.modules, "cupy", package)
    return package


def test_an_array_arrives_as_what_it_was(echo: Callable[[Any], Any], stand_in: ModuleType) -> None:
    array = StandInArray(np.arange(10_000.0).reshape(100, 100))
    back = echo({"a": [array]})["a"][0]
    assert type(back) is StandInArray
    assert back is not array
    assert np.array_equal(back.array, array.array)


def test_without_the_package_it_is_named(echo: Callable[[Any], Any], stand_in: Any) -> None:
    def gone(array: Any) -> Any:
        sys.modules["cupy"] = None  # type: ignore[assignment]
        return array.array

    stand_in.asnumpy = gone
    with pytest.raises(ImportError, match="cupy"):
        echo(StandInArray(np.arange(3)))


def test_other_objects_are_still_named(echo: Callable[[Any], Any], stand_in: ModuleType) -> None:
    with pytest.raises(TypeError, match="argument 0"):
        echo(object())


@pytest.mark.skipif(not HAS_JAX, reason="JAX is not installed")
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "complex64", "bfloat16", "float16", "uint8"])
def test_jax(echo: Callable[[Any], Any], dtype: str) -> None:
    import jax
    import jax.numpy as jnp

    array = jnp.arange(12).reshape(3, 4).astype(dtype)
    back = echo(array)
    assert isinstance(back, jax.Array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert bool((back == array).all())
