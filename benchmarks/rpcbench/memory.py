"""Measures the memory of a tree of processes: resident, proportional, private, and GPU memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
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


def tree(pids: Iterable[int] = ()) -> list[psutil.Process]:
    """Return this process, its descendants, including helpers and their children, and those in `pids`."""
    host = psutil.Process()
    found = {process.pid: process for process in [host, *host.children(recursive=True)]}
    for pid in pids:
        if pid not in found and psutil.pid_exists(pid):
            found[pid] = psutil.Process(pid)
    return list(found.values())


def usage(gpus: Gpus, pids: Iterable[int] = ()) -> Usage:
    """Return the memory of the whole tree."""
    processes = tree(pids)
    vram = gpus.used_by(process.pid for process in processes)
    rss, pss, uss = (sum(column) for column in zip(*map(_sizes, processes), strict=True))
    return Usage(rss, pss, uss, vram)


def private(pids: Iterable[int]) -> list[int]:
    """Return the private memory (USS) of each of these processes."""
    return [_sizes(psutil.Process(pid))[2] for pid in pids]


def _sizes(process: psutil.Process) -> tuple[int, int, int]:
    try:
        info = process.memory_full_info()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return 0, 0, 0
    return info.rss, info.pss, info.uss
