"""Measures the memory of a tree of processes: resident, proportional, private, and GPU memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Usage:
    """Bytes, summed over processes, or the difference of two such sums."""

    rss: int = 0
    """Resident: each page counts once for every process that maps it."""
    pss: int = 0
    """Proportional: a page of n processes counts 1/n in each, so that the sum is the memory in use."""
    uss: int = 0
    """Private: the memory that would be free if the process ended."""
    vram: int = 0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.rss - other.rss, self.pss - other.pss, self.uss - other.uss, self.vram - other.vram)


class Gpus:
    """The memory of NVIDIA GPUs according to NVML; 0 without a GPU or without nvidia-ml-py."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[Any] = []
        try:
            import pynvml  # type: ignore[import-untyped]

            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            self._nvml = pynvml
        except Exception:  # no package, no driver or no permission counts as no GPU
            return
        self._before = self._in_use()

    @property
    def present(self) -> bool:
        return bool(self._devices)

    def used_by(self, pids: Iterable[int]) -> int:
        """Return the bytes that these processes use.

        NVML uses the machine's process ids. In a container processes have other ids: then this is the growth
        of the memory in use on the devices, whoever uses it.
        """
        if not self.present:
            return 0
        wanted, found = set(pids), []
        for device in self._devices:
            with contextlib.suppress(self._nvml.NVMLError):
                for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(device):
                    if process.pid in wanted and process.usedGpuMemory is not None:
                        found.append(int(process.usedGpuMemory))
        return sum(found) if found else max(0, self._in_use() - self._before)

    def _in_use(self) -> int:
        return sum(int(self._nvml.nvmlDeviceGetMemoryInfo(device).used) for device in self._devices)


@dataclass(frozen=True)
class Snapshot:
    """The memory of this process and its descendants at one moment."""

    processes: Mapping[psutil.Process, Usage]
    vram: int

    def total(self) -> Usage:
        sizes = [(each.rss, each.pss, each.uss) for each in self.processes.values()]
        return Usage(*(sum(column) for column in zip(*sizes, strict=True)), self.vram)

    def since(self, earlier: Snapshot) -> Usage:
        """Return the memory that the tree has gained since `earlier`.

        What a process had that has ended meanwhile is not subtracted. It may be the zygote of former
        extensions, which ends a minute after them. Its private memory is free now, and what it shared counts
        in others now.
        """
        grown = self.total() - earlier.total()
        ended = [size for process, size in earlier.processes.items() if process not in self.processes]
        rss, uss = sum(size.rss for size in ended), sum(size.uss for size in ended)
        return Usage(grown.rss + rss, grown.pss + uss, grown.uss + uss, grown.vram)


def tree() -> list[psutil.Process]:
    """Return this process and its descendants, including helpers and their children."""
    host = psutil.Process()
    return [host, *host.children(recursive=True)]


def snapshot(gpus: Gpus) -> Snapshot:
    """Measure the whole tree."""
    processes = tree()
    vram = gpus.used_by(process.pid for process in processes)
    sizes = {process: size for process in processes if (size := _size(process)).rss}
    return Snapshot(sizes, vram)


def private(pids: Iterable[int]) -> list[int]:
    """Return the private memory (USS) of each of these processes."""
    return [_size(psutil.Process(pid)).uss for pid in pids]


def _size(process: psutil.Process) -> Usage:
    try:
        info = process.memory_full_info()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return Usage()
    return Usage(info.rss, info.pss, info.uss)
