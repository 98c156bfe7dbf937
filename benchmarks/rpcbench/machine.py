"""Describes the machine, so that readers can judge the figures, and measures the memory of processes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

import pyisolate

PACKAGES = ("numpy", "torch", "psutil", "tabulate", "rich", "nvidia-ml-py")
CGROUP = Path("/sys/fs/cgroup")
RESERVE = 256 * 2**20
"""Memory that is left to other processes."""


def describe() -> dict[str, Any]:
    """Return processor, kernel, memory and load."""
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the relevant packages that are installed."""
    found = {"python": platform.python_version(), "pyisolate": pyisolate.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return date and time, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def memory(pids: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return the resident (rss) and private (uss) bytes of processes, by the given names."""
    sizes = {}
    for name, pid in pids.items():
        info = psutil.Process(pid).memory_full_info()
        sizes[name] = {"rss": info.rss, "uss": info.uss}
    return sizes


def available_memory() -> int:
    """Return the bytes that can be used without swapping, within the limit of a container."""
    available: int = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        counters = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        reclaimable = int(counters["inactive_file"]) + int(counters["active_file"])
    except (OSError, ValueError, KeyError):  # no control group, or "max"
        return available
    return min(available, limit - used + reclaimable)


def shortage(need: int) -> str:
    """Return that `need` bytes are not available, in words; the empty string if they are."""
    available = available_memory()
    if need + RESERVE <= available:
        return ""
    return f"needs {need / 1e9:.1f} GB of memory; {available / 1e9:.1f} GB are available"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
