"""The cases of the memory benchmark: numbers of extensions, and a large tensor sent to several of them."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpcbench import machine, memory, tensors
from rpcbench.fleet import Fleet
from rpcbench.memory import Gpus, Snapshot, Usage

SMALL_SHAPE = (512, 512)
TIME_LIMIT = 600.0
"""Seconds that one measurement may take. Calls have no separate limit."""
IDLE_AFTER_SECONDS = 0.5
"""Extensions are measured when they are idle: an idle process releases memory that it did not change."""
MB = 2**20


class Obstacle(Exception):
    """The reason why something cannot be measured here."""


@dataclass(frozen=True)
class Configuration:
    """How extensions run, and the device of the tensor that they are sent; no device: without torch."""

    title: str
    share_torch: bool = False
    device: str = ""


BARE = Configuration("BARE")
CONFIGURATIONS = [
    BARE,
    Configuration("CPU NO SHARE", False, "cpu"),
    Configuration("CPU SHARE", True, "cpu"),
    Configuration("GPU NO SHARE", False, "gpu"),
    Configuration("GPU SHARE", True, "gpu"),
]


@dataclass
class ScalingRow:
    """A number of extensions with one configuration. Figures are bytes above the baseline, unless noted."""

    extensions: int
    idle: Usage
    """All processes, before the tensor is sent."""
    private: list[int]
    """USS of each extension's process then; absolute."""
    start_seconds: list[float]
    """From `load_extension` to the first reply."""
    tensor: Usage | None = None
    """The memory that sending the tensor to all has added."""
    vram: int = 0
    """All processes, while they have the tensor."""
    shared: str = "-"
    """Whether host and extensions share the tensor's memory."""
    obstacle: str = ""
    """The reason why no tensor was sent."""


@dataclass
class LargeRow:
    """The large tensor in one configuration. Figures are bytes that distributing it has added."""

    configuration: Configuration
    extensions: int
    size: int
    sent: Usage
    read: Usage
    """The same after every extension has read the whole tensor, so that it is resident in each."""
    shared: str


@dataclass
class Found:
    """All results of a run."""

    baseline: Usage = field(default_factory=Usage)
    scaling: dict[str, list[ScalingRow]] = field(default_factory=dict)
    large: list[LargeRow] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


class MemorySuite:
    """Starts fleets below `folder` and measures them. Raises Obstacle if something cannot be measured."""

    def __init__(self, folder: Path, sandbox: str = "required") -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.gpus = Gpus()

    def snapshot(self) -> Snapshot:
        gc.collect()
        return memory.snapshot(self.gpus)

    def check(self, configuration: Configuration, sharing_obstacle: str) -> None:
        """Raise if the configuration cannot run at all."""
        if configuration.device and (missing := tensors.missing(configuration.device)):
            raise Obstacle(missing)
        if configuration.share_torch and sharing_obstacle:
            raise Obstacle(sharing_obstacle)

    async def scale(self, configuration: Configuration, count: int) -> ScalingRow:
        """Start `count` extensions, measure, send all of them one small tensor, and measure again."""
        baseline = self.snapshot()
        async with self._fleet(configuration, count, baseline) as (fleet, seconds):
            await asyncio.sleep(IDLE_AFTER_SECONDS)
            row = ScalingRow(
                count, self.snapshot().since(baseline), memory.private(fleet.pids.values()), seconds
            )
            if configuration.device:
                tensor = tensors.allocate(SMALL_SHAPE, configuration.device)
                before = self.snapshot()
                try:
                    await self._distribute(fleet, tensor)
                except Obstacle as obstacle:
                    row.obstacle = str(obstacle)
                    return row
                during = self.snapshot()
                row.tensor, row.vram = during.since(before), during.since(baseline).vram
                row.shared = await self._is_shared(fleet, tensor)
        return row

    async def large(self, configuration: Configuration, extensions: int, size: int) -> LargeRow:
        """Send one large tensor to several extensions; `size` is in bytes."""
        copies = 2 if configuration.share_torch else 1 + extensions
        if configuration.device == "cpu" and (shortage := machine.shortage(copies * size)):
            raise Obstacle(shortage)
        baseline = self.snapshot()
        async with self._fleet(configuration, extensions, baseline) as (fleet, _):
            tensor = tensors.allocate((size // tensors.ITEM_BYTES,), configuration.device)
            before = self.snapshot()
            await self._distribute(fleet, tensor)
            sent = self.snapshot().since(before)
            for extension in fleet.host.extensions.values():
                await extension.total()
            read = self.snapshot().since(before)
            shared = await self._is_shared(fleet, tensor)
        return LargeRow(configuration, extensions, size, sent, read, shared)

    @asynccontextmanager
    async def _fleet(
        self, configuration: Configuration, count: int, baseline: Snapshot
    ) -> AsyncIterator[tuple[Fleet, list[float]]]:
        """Start `count` extensions, which then have used torch; also return how long each took to start."""
        folder = self.folder / configuration.title.replace(" ", "-")
        fleet = Fleet(
            folder,
            [],
            share_torch=configuration.share_torch,
            share_cuda=configuration.share_torch and configuration.device == "gpu",
            timeout=None,
            sandbox=self.sandbox,
        )
        seconds = []
        try:
            for number in range(count):
                start = time.perf_counter()
                extension = await fleet.start_one(f"extension-{number}")
                seconds.append(time.perf_counter() - start)
                if configuration.device:
                    await extension.use_torch()
                if number == 0:
                    each = self.snapshot().since(baseline).pss
                if shortage := machine.shortage(max(0, each) * (count - number - 1)):
                    raise Obstacle(f"the other {count - number - 1}: {shortage}")
            yield fleet, seconds
        finally:
            await fleet.stop()

    async def _distribute(self, fleet: Fleet, tensor: Any) -> None:
        for extension in fleet.host.extensions.values():
            try:
                await extension.keep(tensor)
            except TypeError:
                raise Obstacle("this version cannot send tensors") from None

    async def _is_shared(self, fleet: Fleet, tensor: Any) -> str:
        """Write on each side and read on the other. Return Yes, No, or for how many extensions it works."""
        flat, seen = tensor.reshape(-1), 0
        for number, extension in enumerate(fleet.host.extensions.values(), 2):
            flat[0] = number
            float(flat[0])  # waits until the GPU has finished
            try:
                await extension.write(1, number)
            except (ValueError, RuntimeError):  # a copy that cannot be written
                continue
            seen += await extension.look(0) == number and float(flat[1]) == number
        if seen == len(fleet.host.extensions):
            return "Yes"
        return f"{seen} of {len(fleet.host.extensions)}" if seen else "No"


def mean_start(row: ScalingRow) -> float:
    """Return the mean seconds from `load_extension` to the first reply."""
    return statistics.fmean(row.start_seconds)
