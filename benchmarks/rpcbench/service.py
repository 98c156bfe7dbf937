"""Both ends of the measured calls.

`BenchmarkExtension` runs in the extensions' processes, `BenchmarkHost` in the host's. Methods marked with
`local_execution` do the same work in the calling process: they are the baselines.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from pyisolate import ExtensionBase, ProxiedSingleton, Ref, local_execution, register_type


@dataclass
class Settings:
    """A class of the application's own."""

    values: dict[str, Any]


register_type(Settings, name="Settings", encode=lambda settings: settings.values, decode=Settings)


class BenchmarkHost(ProxiedSingleton):
    """The host's object that extensions call, and through it each other."""

    def __init__(self) -> None:
        self.extensions: dict[str, Any] = {}
        """Proxies of the running extensions by name; filled by the host."""

    async def echo(self, value: Any) -> Any:
        """Return what was sent."""
        return value

    async def descend(self, name: str, depth: int) -> int:
        """Recurse between the host and an extension, and return how many calls that takes."""
        return 0 if depth == 0 else 1 + int(await self.extensions[name].descend(name, depth))

    async def relay(self, name: str, value: Any) -> Any:
        """Return what extension `name` returns."""
        return await self.extensions[name].echo(value)

    @local_execution
    async def local_echo(self, value: Any) -> Any:
        """Do the work of `echo` in this process."""
        return value

    @local_execution
    async def local_size(self, value: Any) -> int:
        """Do the work of an extension's `size` in this process."""
        return memoryview(value).nbytes

    @local_execution
    async def local_descend(self, depth: int) -> int:
        """Do the work of `descend`, with as many calls, in this process."""
        return 0 if depth == 0 else 1 + await self.local_descend(depth - 1)

    @local_execution
    async def local_relay(self, value: Any, hops: int) -> Any:
        """Do the work of `relay`, with as many calls, in this process."""
        return value if hops == 1 else await self.local_relay(value, hops - 1)

    @local_execution
    def local_echo_sync(self, value: Any) -> Any:
        """Do the work of an extension's `plain_echo` in this process."""
        return value


async def _empty() -> None:
    """Do nothing: the least work that a task can have."""


class BenchmarkExtension(ExtensionBase):
    """The operations of an extension."""

    _module: ModuleType
    _kept: Any = None
    _held: Any = None

    async def on_module_loaded(self, module: ModuleType) -> None:
        """Keep the extension's module, which knows its process."""
        self._module = module

    async def describe(self) -> dict[str, Any]:
        """Return the process id and the version of Python."""
        return dict(self._module.describe())

    async def collect(self) -> None:
        """Collect garbage, so that a collection that is due anyway does not run during a measurement."""
        gc.collect()

    async def echo(self, value: Any) -> Any:
        """Return what was sent."""
        return value

    def plain_echo(self, value: Any) -> Any:
        """Return what was sent, without a task."""
        return value

    async def task_time(self, samples: int) -> float:
        """Return the median nanoseconds from the creation of an empty task to its end."""
        loop, found = asyncio.get_running_loop(), []
        for _ in range(samples):
            start = perf_counter_ns()
            await loop.create_task(_empty())
            found.append(perf_counter_ns() - start)
        return sorted(found)[len(found) // 2]

    async def size(self, value: Any) -> int:
        """Return how many bytes were sent."""
        return memoryview(value).nbytes

    async def receive(self, value: Any) -> bool:
        """Receive a value and release it."""
        return True

    async def use_torch(self) -> None:
        """Import PyTorch and compute something with it."""
        import torch

        torch.ones(8, 8).sum()

    async def take(self, value: Any) -> None:
        """Receive a value and drop it."""

    async def hold(self, value: Any) -> None:
        """Hold a function or a reference until the end."""
        self._held = value

    async def give_echo(self) -> Callable[[Any], Awaitable[Any]]:
        """Return `echo` as a function."""
        return self.echo

    async def give_ref(self) -> Ref[BenchmarkExtension]:
        """Return a reference to this object on which `echo` can be called."""
        return Ref(self, methods=["echo"])

    async def sample_held(self, value: Any, runs: int) -> list[int]:
        """Return the nanoseconds of each of `runs` calls of what is held, measured in this process."""
        echo = self._held.echo
        return await self._sample(lambda: echo(value), value, runs)

    async def keep(self, value: Any) -> None:
        """Keep a tensor until `forget`."""
        self._kept = value

    async def forget(self) -> None:
        """Release the tensor."""
        self._kept = None
        gc.collect()

    async def look(self, index: int) -> float:
        """Return an element of the tensor."""
        return float(self._kept.reshape(-1)[index])

    async def write(self, index: int, value: float) -> None:
        """Change an element of the tensor."""
        self._kept.reshape(-1)[index] = value

    async def total(self) -> float:
        """Return the sum of the tensor's elements, which reads all of them."""
        return float(self._kept.sum())

    async def descend(self, name: str, depth: int) -> int:
        """See `BenchmarkHost.descend`."""
        return 1 + await BenchmarkHost().descend(name, depth - 1)

    async def chain(self, name: str, value: Any) -> Any:
        """Return what extension `name` returns, called through the host."""
        return await BenchmarkHost().relay(name, value)

    async def sample_host(self, value: Any, runs: int) -> list[int]:
        """Return the nanoseconds of each of `runs` calls of the host's `echo`, measured in this process."""
        host = BenchmarkHost()
        return await self._sample(lambda: host.echo(value), value, runs)

    async def sample_local(self, value: Any, runs: int) -> list[int]:
        """Like `sample_host`, without leaving this process."""
        host = BenchmarkHost()
        return await self._sample(lambda: host.local_echo(value), value, runs)

    async def _sample(self, call: Callable[[], Awaitable[Any]], expected: Any, runs: int) -> list[int]:
        samples, result = [], expected
        for _ in range(runs):
            start = perf_counter_ns()
            result = await call()
            samples.append(perf_counter_ns() - start)
        if result != expected:
            raise ValueError(f"the host answered {result!r}")
        return samples
