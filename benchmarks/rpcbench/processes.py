"""psutil, or where it is not installed, what the benchmarks use of it, read from /proc."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROC = Path("/proc")


class NoSuchProcess(Exception):
    """It has ended."""


class Process:
    """One process, by default this one."""

    def __init__(self, pid: int | str = "self") -> None:
        self.pid = int((PROC / str(pid)).resolve().name)

    def memory_full_info(self) -> Any:
        """Bytes: resident, proportional, private."""
        try:
            text = (PROC / str(self.pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            raise NoSuchProcess(self.pid) from None
        sizes = _kilobytes(text)
        private = sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
        return SimpleNamespace(rss=sizes.get("Rss", 0), pss=sizes.get("Pss", 0), uss=private)

    def children(self, recursive: bool = False) -> list[Process]:
        """Its descendants."""
        parents = {}
        for stat in PROC.glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended
        found = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return [Process(pid) for pid in found - {self.pid}]


def _kilobytes(text: str) -> dict[str, int]:
    pairs = (line.split(":") for line in text.splitlines() if line.endswith("kB"))
    return {name: int(size.split()[0]) * 1024 for name, size in pairs}


def _virtual_memory() -> Any:
    sizes = _kilobytes((PROC / "meminfo").read_text())
    return SimpleNamespace(total=sizes["MemTotal"], available=sizes["MemAvailable"])


psutil: Any
try:
    import psutil  # type: ignore[import-untyped, no-redef]
except ImportError:
    psutil = SimpleNamespace(
        Process=Process,
        NoSuchProcess=NoSuchProcess,
        virtual_memory=_virtual_memory,
        pid_exists=lambda pid: (PROC / str(pid)).exists(),
    )
