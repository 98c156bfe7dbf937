"""The memory benchmark counts what it says, tells shared memory from copies, and gives up politely."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import memory_benchmark  # noqa: E402
import numpy as np  # noqa: E402
from rpcbench import machine, memory, memory_report, tensors  # noqa: E402
from rpcbench.fleet import sharing_obstacle  # noqa: E402
from rpcbench.memory import Gpus, Usage  # noqa: E402
from rpcbench.memory_cases import (  # noqa: E402
    BARE,
    CONFIGURATIONS,
    MB,
    Configuration,
    Found,
    LargeRow,
    MemorySuite,
    Obstacle,
    ScalingRow,
)

NO_SHARE, SHARE = CONFIGURATIONS[1], CONFIGURATIONS[2]
needs_torch = pytest.mark.skipif(tensors.installed_torch() is None, reason="torch is not installed")

HOLDS = """
import mmap, sys
memory = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE)
for page in range(0, len(memory), 4096):
    memory[page] = 1
print(flush=True)
sys.stdin.read()
"""


def usage(megabytes: float) -> Usage:
    return Usage(rss=int(3 * megabytes * MB), pss=int(megabytes * MB), uss=int(megabytes * MB))


# ---- counting ----


@contextmanager
def holder(source: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs this source, has written its line and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process


def test_memory_of_children_and_their_children_counts() -> None:
    nested = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {HOLDS!r}]))"
    before = memory.snapshot(Gpus())
    with holder(nested) as process:
        pids = {each.pid for each in memory.tree()}
        grown = memory.snapshot(Gpus()).since(before)
    assert {os.getpid(), process.pid} < pids
    assert len(pids) >= 3
    for size in (grown.rss, grown.pss, grown.uss):
        assert size >= 32 * MB


def test_memory_of_a_process_that_ends_meanwhile_does_not_count() -> None:
    """As a zygote does when it has had no extension for a minute, whatever is measured then."""
    with holder(HOLDS):
        before = memory.snapshot(Gpus())
    with holder(HOLDS):
        grown = memory.snapshot(Gpus()).since(before)
    for size in (grown.rss, grown.pss, grown.uss):
        assert size >= 32 * MB


def nvml(processes: dict[int, int], used: list[int]) -> Any:
    """A stand-in for pynvml with one device; `used` are successive answers of its use in all."""
    module: Any = types.ModuleType("pynvml")
    module.NVMLError = type("NVMLError", (Exception,), {})
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: 1
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetMemoryInfo = lambda device: types.SimpleNamespace(used=used.pop(0))
    module.nvmlDeviceGetComputeRunningProcesses = lambda device: [
        types.SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in processes.items()
    ]
    return module


@pytest.mark.parametrize(
    ("processes", "used", "expected"),
    [({1: 100, 2: 20, 3: 7}, [0], 120), ({9: 100}, [500, 570], 70), ({}, [500, 400], 0)],
    ids=["by process", "by device, as processes have other names", "less than before"],
)
def test_memory_of_gpus(
    processes: dict[int, int], used: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(processes, used))
    gpus = Gpus()
    assert gpus.present
    assert gpus.used_by([1, 2]) == expected


def test_without_a_gpu_there_is_no_memory_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert (Gpus().present, Gpus().used_by([os.getpid()])) == (False, 0)


# ---- what is measured ----


def test_extensions_without_torch(tmp_path: Path) -> None:
    row = asyncio.run(MemorySuite(tmp_path).scale(BARE, 2))
    assert (row.extensions, row.shared, row.tensor) == (2, "-", None)
    assert len(row.private) == len(row.start_seconds) == 2
    assert row.idle.rss >= row.idle.pss > 0
    assert min(row.private) > 0


@needs_torch
def test_copies_are_told_from_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With arrays, which are always copied."""
    monkeypatch.setattr(tensors, "allocate", lambda shape, device: np.ones(shape, np.float32))
    row = asyncio.run(MemorySuite(tmp_path).large(Configuration("ARRAYS", False, "cpu"), 2, 16 * MB))
    assert row.shared == "No"
    assert (row.extensions, row.size) == (2, 16 * MB)
    assert row.read.pss >= 30 * MB  # one copy each, and none twice would be 32


@needs_torch
@pytest.mark.parametrize("configuration", [NO_SHARE, SHARE], ids=["standard", "shared"])
def test_tensors(configuration: Configuration, tmp_path: Path) -> None:
    if obstacle := sharing_obstacle(tmp_path) if configuration.share_torch else "":
        pytest.skip(obstacle)
    suite = MemorySuite(tmp_path)
    row = asyncio.run(suite.large(configuration, 2, 32 * MB))
    if configuration.share_torch:
        assert row.shared == "Yes"
        assert row.sent.pss < 16 * MB
    else:
        assert row.shared == "No"
        assert row.sent.pss >= 60 * MB


@needs_torch
def test_a_small_tensor_to_each_extension(tmp_path: Path) -> None:
    row = asyncio.run(MemorySuite(tmp_path).scale(NO_SHARE, 1))
    assert (row.shared, row.obstacle, row.vram) == ("No", "", 0)
    assert row.tensor
    assert row.tensor.pss >= MB // 2


def test_what_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: machine.RESERVE + 5 * 10**9)
    with pytest.raises(Obstacle, match=r"needs 12\.9 GB of memory; 5\.3 GB are available"):
        asyncio.run(MemorySuite(tmp_path).large(NO_SHARE, 5, 2048 * MB))
    monkeypatch.setattr(machine, "available_memory", lambda: machine.RESERVE)
    with pytest.raises(Obstacle, match=r"^the other 99: needs"):
        asyncio.run(MemorySuite(tmp_path).scale(BARE, 100))


# ---- the report ----


def test_tables_look_as_specified() -> None:
    found = Found(
        baseline=usage(50),
        scaling={"CPU NO SHARE": [ScalingRow(5, usage(50), [7 * MB], [0.1], usage(2), 0, "No")]},
        large=[
            LargeRow(NO_SHARE, 5, 2048 * MB, usage(10240 / 3), usage(10240), "No"),
            LargeRow(SHARE, 5, 2048 * MB, usage(512 / 3), usage(0), "Yes"),
        ],
        skipped=[("GPU SHARE", "no CUDA device")],
    )
    text = memory_report.render(found)
    assert text.startswith(
        f"MEMORY BENCHMARK SUMMARY\n{'=' * 80}\n\nBaseline Memory Usage:\n  RAM: 150.0 MB\n"
    )
    assert "\n  VRAM: 0.0 MB\n" in text
    assert "\nCPU NO SHARE Results:\n" in text
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    assert rows[0][:5] == ["Extensions", "RAM/Ext (MB)", "Tensor RAM (MB)", "VRAM (MB)", "Shared"]
    assert rows[1] == ["5", "30.0", "6.0", "0.0", "No", "50.0", "10.0", "7.0", "2.0", "100.0"]
    assert "\n2GB TENSOR SHARING TEST:\n" in text
    assert rows[2][:4] == ["Config", "Tensor Size (MB)", "Distribution RAM (MB)", "RAM/Extension (MB)"]
    assert rows[3][:4] == ["share_torch=False", "2048.0", "10240.0", "2048.0"]
    assert rows[4][:4] == ["share_torch=True", "2048.0", "512.0", "102.4"]
    assert "\nMemory Sharing Analysis:\n  Memory saved with share_torch: 9728.0 MB (95.0%)\n" in text
    assert ["GPU SHARE", "no CUDA device"] in rows


# ---- the program ----


def test_program_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(tensors, "installed_torch", lambda: None)
    file, drawing = tmp_path / "memory.json", tmp_path / "memory.svg"
    arguments = ["--counts", "1,2", "--json", str(file), "--plot", str(drawing)]
    assert memory_benchmark.main(arguments) == 0
    text = capsys.readouterr().out
    assert "\nBARE Results:\n" in text
    assert text.startswith("Sandbox: required (extensions are confined)\n")
    found = json.loads(file.read_text())
    assert found["sandbox"] == "required"
    assert [row["extensions"] for row in found["scaling"]["BARE"]] == [1, 2]
    assert found["skipped"] == [[each.title, "torch is not installed"] for each in CONFIGURATIONS[1:]]
    assert found["large"] == found["failed"] == []
    assert "<svg" in drawing.read_text()


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ([], [1, 5, 10, 25, 50, 100]),
        (["--counts", "5,1,10"], [1, 5, 10]),
        (["--max-extensions", "20"], [1, 5, 10, 20]),
        (["--max-extensions", "100"], [1, 5, 10, 25, 50, 100]),
        (["--counts", "1,5,10", "--max-extensions", "6"], [1, 5]),
    ],
)
def test_options(arguments: list[str], counts: list[int]) -> None:
    assert memory_benchmark.parse(arguments).counts == counts


@pytest.mark.parametrize(
    "arguments",
    [
        ["--counts", "0"],
        ["--counts", "one"],
        ["--counts", "5", "--max-extensions", "4"],
        ["--large-only", "--small-only"],
        ["--plot", "memory.pdf"],
    ],
)
def test_wrong_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        memory_benchmark.parse(arguments)
    assert stopped.value.code == 2
