"""The benchmarks measure what they say and survive what they measure; no test looks at a time.

`BenchmarkRunner` is the class that runs the rows (benchmarks/rpcbench/harness.py); `sampler`,
`operation` and `table` are what the tests of a new row need. ``pytest tests/test_benchmarks.py -v -s`` shows
the tables.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_tables import table

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import benchmark  # noqa: E402
import simple_benchmark  # noqa: E402
from rpcbench import confinement, machine, tensors, yardsticks  # noqa: E402
from rpcbench.cases import CASES, SMALL, TENSOR, Case, small_int  # noqa: E402
from rpcbench.fleet import MAIN, Fleet, sharing_obstacle  # noqa: E402
from rpcbench.harness import (  # noqa: E402
    BenchmarkRunner,
    Operation,
    Result,
    Sampler,
    Status,
    percentile,
    timed,
)
from rpcbench.report import Report, render, significant  # noqa: E402

from pyisolate._host.floor import measure_floor  # noqa: E402

# ---- utilities ----


def sampler(call: Any, expected: Any) -> Sampler:
    """A sampler of an async function without arguments."""
    return timed(call, lambda result: bool(result == expected))


async def one() -> int:
    """Something to measure."""
    return 1


def operation(call: Any = one, expected: Any = 1) -> Operation:
    """An operation that stays in this process."""
    return Operation(sample=sampler(call, expected), sample_local=sampler(one, 1))


def report_of(results: list[Result]) -> Report:
    """A report about nothing but these rows."""
    return Report({}, {}, "", {}, results, [100.0, 200.0], [50], [40_000])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    asyncio.run(fleet.start())
    yield fleet
    asyncio.run(fleet.stop())


# ---- the runner ----


def test_a_row_has_the_runs_that_were_asked_for() -> None:
    runner = BenchmarkRunner(warmup=3, runs=20)
    calls = 0

    async def counted() -> int:
        nonlocal calls
        calls += 1
        return 1

    result = asyncio.run(runner.run("row", SMALL, lambda: operation(counted)))
    assert (result.status, len(result.samples_ns), len(result.local_ns)) == (Status.SUCCESSFUL, 20, 20)
    assert calls == 23
    assert runner.results == [result]


def test_a_row_over_its_budget_stops_early_and_says_so() -> None:
    async def slow() -> int:
        await asyncio.sleep(0.01)
        return 1

    runner = BenchmarkRunner(warmup=1, runs=100_000, max_seconds=0.05)
    result = asyncio.run(runner.run("row", SMALL, lambda: operation(slow)))
    assert 1 <= len(result.samples_ns) < 100_000
    text = render(report_of([result]))
    assert f"{len(result.samples_ns)} of 100000" in text


def test_rows_after_a_failure_still_run() -> None:
    async def fail() -> int:
        raise ValueError("no reason\nsecond line")

    def unprepared() -> Operation:
        raise MemoryError("too large")

    runner = BenchmarkRunner(warmup=1, runs=2)

    async def main() -> None:
        await runner.run("fails", SMALL, lambda: operation(fail))
        await runner.run("lies", SMALL, lambda: operation(expected=2))
        await runner.run("starts badly", SMALL, unprepared)
        await runner.run("works", SMALL, operation)
        runner.skip("skipped", SMALL, "no need")

    asyncio.run(main())
    text = render(report_of(runner.results))
    assert table(text, "Failed Tests") == {
        "fails": ["ValueError: no reason"],
        "lies": ["WrongResult: wrong result: 1"],
        "starts badly": ["MemoryError: too large"],
    }
    assert list(table(text, "Successful Benchmarks")) == ["works"]
    assert table(text, "Skipped Tests") == {"skipped": ["no need"]}
    assert text.endswith("Summary: 1 successful, 3 failed, 1 skipped (Total: 5)")


def test_a_row_that_hangs_is_given_up() -> None:
    async def hang() -> int:
        await asyncio.Event().wait()
        return 1

    runner = BenchmarkRunner(warmup=1, runs=2, max_seconds=0.01, timeout=0.01)
    result = asyncio.run(runner.run("row", SMALL, lambda: operation(hang)))
    assert (result.status, result.reason) == (Status.FAILED, "Timeout")


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 99, 1), (100, 99, 99), (200, 99, 198), (3, 50, 2)]
)
def test_percentile(count: int, percent: int, expected: int) -> None:
    assert percentile(list(range(count, 0, -1)), percent) == expected


# ---- the report ----


def test_tables_look_as_specified() -> None:
    rows = [
        Result("small_int_shared", SMALL, Status.SUCCESSFUL, samples_ns=[600, 612, 640], local_ns=[100]),
        Result("large_bytes_shared", SMALL, Status.SUCCESSFUL, samples_ns=[12_000_000], local_ns=[100]),
    ]
    text = render(report_of(rows))
    expected = """\
============================================================
RPC BENCHMARK RESULTS
============================================================

Successful Benchmarks:
+--------------------+-------------+----------------+------------+------------+
| Test               |   Mean (ms) |   Std Dev (ms) |   Min (ms) |   Max (ms) |
+====================+=============+================+============+============+
| small_int_shared   |   0.0006173 |     0.00002053 |  0.0006000 |  0.0006400 |
+--------------------+-------------+----------------+------------+------------+
"""
    assert text[: len(expected)] == expected
    assert table(text, "Successful Benchmarks") == {
        "small_int_shared": ["0.0006173", "0.00002053", "0.0006000", "0.0006400"],
        "large_bytes_shared": ["12.00", "0", "12.00", "12.00"],
    }
    assert "\nFastest result: 0.0006173ms\n" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00061234, "0.0006123"),
        (12.3456, "12.35"),
        (1122.4, "1122"),
        (654321.0, "654300"),
        (0, "0"),
        (-1.5, "-1.500"),
        (9.99999, "10.00"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


# ---- what is measured ----


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_case_gives_right_results(case: Case, fleet: Fleet) -> None:
    runner = BenchmarkRunner(warmup=1, runs=3)
    result = asyncio.run(runner.run(case.name, case.category, lambda: case.prepare(fleet), calls=case.calls))
    assert (result.status, result.reason) == (Status.SUCCESSFUL, "")
    assert len(result.samples_ns) == len(result.local_ns) == 3
    if case.name.startswith("large"):
        assert set(result.memory) == {"before", "warm", "after"}
        assert all(size > 0 for process in result.memory["after"].values() for size in process.values())
    print("\n" + render(report_of([result])))


@pytest.mark.parametrize("mode", confinement.MODES)
def test_extensions_are_confined_unless_it_is_said(mode: str, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, [MAIN], **({} if mode == "required" else {"sandbox": mode}))

    async def confined() -> bool:
        await fleet.start()
        try:
            return bool(fleet.main.sandbox_status().confined)
        finally:
            await fleet.stop()

    assert asyncio.run(confined()) == (mode == "required")
    assert confinement.why_not(mode) == ""


def test_where_extensions_cannot_be_confined_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(mode: str) -> str:
        return "extension 'confined' could not be confined: files: no Landlock" if mode == "required" else ""

    monkeypatch.setattr(confinement, "why_not", refuse)
    for main in (benchmark.main, simple_benchmark.main):
        with pytest.raises(SystemExit) as stopped:
            main([])
        assert stopped.value.code == 1
        told = capsys.readouterr()
        assert "files: no Landlock" in told.err
        assert "--sandbox disabled" in told.err
        assert told.out == ""
    confinement.check("disabled")


def test_calls_cross_as_often_as_the_rows_say(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type(fleet.host)
    originals = {"descend": cls.descend, "relay": cls.relay}
    counts = dict.fromkeys(originals, 0)

    async def measured() -> None:
        for case in CASES:
            if case.name in ("recursion_depth_5", "extension_chain"):
                await case.prepare(fleet).sample(1)

    async def descend(self: Any, name: str, depth: int) -> int:
        counts["descend"] += 1
        return await originals["descend"](self, name, depth)

    async def relay(self: Any, name: str, value: Any) -> Any:
        counts["relay"] += 1
        return await originals["relay"](self, name, value)

    monkeypatch.setattr(cls, "descend", descend)  # of the class: what an object has besides cannot be called
    monkeypatch.setattr(cls, "relay", relay)
    asyncio.run(measured())
    assert counts == {"descend": 5, "relay": 1}  # and as many again to extensions: 10; 1 + 1 + 1


def test_a_failed_extension_is_replaced(tmp_path: Path) -> None:
    pids = []

    def dies(fleet: Fleet) -> Operation:
        pids.append(fleet.pids[MAIN])
        os.kill(fleet.pids[MAIN], signal.SIGKILL)
        return small_int(fleet)

    def hangs(fleet: Fleet) -> Operation:
        pids.append(fleet.pids[MAIN])
        return Operation(sampler(lambda: fleet.main.sample_host(1, 10**9), []), sampler(one, 1))

    def works(fleet: Fleet) -> Operation:
        pids.append(fleet.pids[MAIN])
        return small_int(fleet)

    cases = [Case("dies", SMALL, dies), Case("hangs", SMALL, hangs), Case("works", SMALL, works)]
    runner = BenchmarkRunner(warmup=1, runs=2, timeout=1.0)
    progress = benchmark.progress_bar()
    asyncio.run(benchmark.run_configuration("standard", runner, tmp_path, progress, cases))
    died, hung, worked = runner.results
    assert (died.status, died.reason.split(":")[0]) == (Status.FAILED, "ExtensionDied")
    assert (hung.status, hung.reason) == (Status.FAILED, "Timeout")
    assert (worked.status, worked.name) == (Status.SUCCESSFUL, "works_standard")
    assert len(set(pids)) == 3
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


def test_a_row_with_an_obstacle_is_skipped(tmp_path: Path) -> None:
    async def obstacle(fleet: Fleet) -> str:
        return f"{fleet.names[0]} is busy"

    runner = BenchmarkRunner(warmup=1, runs=2)
    cases = [Case("row", SMALL, small_int, obstacle=obstacle)]
    asyncio.run(benchmark.run_configuration("standard", runner, tmp_path, benchmark.progress_bar(), cases))
    assert [(result.status, result.reason) for result in runner.results] == [(Status.SKIPPED, "main is busy")]


def test_rows_are_skipped_when_no_extension_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Fleet) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr(Fleet, "start", fail)
    runner = BenchmarkRunner(warmup=1, runs=2)
    asyncio.run(benchmark.run_configuration("standard", runner, tmp_path, benchmark.progress_bar()))
    assert {result.status for result in runner.results} == {Status.SKIPPED}
    assert {result.reason for result in runner.results} == {
        "extension was stopped: OSError: no processes left"
    }
    assert len(runner.results) == len(CASES)


# ---- tensors ----


needs_torch = pytest.mark.skipif(tensors.installed_torch() is None, reason="torch is not installed")


class Loopback:
    """A fleet of one extension, which is this process: for rows whose sending is tested elsewhere."""

    def __init__(self, *, share_torch: bool, error: Exception | None = None) -> None:
        self.share_torch = share_torch
        self.main = self.host = self
        self.pids = {MAIN: os.getpid()}
        self.error = error
        self.received: list[int] = []
        """Where the data of tensors was, in the order of their coming."""

    async def echo(self, value: Any) -> Any:
        if self.error:
            raise self.error
        return value

    async def receive(self, value: Any) -> bool:
        if value is not None:
            self.received.append(value.data_ptr())
        return True

    async def collect(self) -> None: ...

    async def local_echo(self, value: Any) -> Any:
        return value


def tensor_case(name: str, **options: Any) -> Case:
    """The row of that name."""
    return next(case for case in tensors.cases(gpu=True, **options) if case.name == name)


def run_case(case: Case, fleet: Any) -> Result:
    """What becomes of the row."""
    runner = BenchmarkRunner(warmup=1, runs=3)
    return asyncio.run(runner.run(case.name, case.category, lambda: case.prepare(fleet)))


def test_sizes_are_those_of_the_specification() -> None:
    sizes = [tensors.bytes_of(shape) for shape in tensors.SHAPES.values()]
    assert sizes == [400, 40_000, 1_048_576, 4_194_304, 805_306_368, 6_442_309_696]
    assert tensors.row_names(gpu=False) == [f"{name}_cpu" for name in tensors.SHAPES]
    rows = tensors.cases(gpu=True)
    assert [case.name for case in rows] == tensors.row_names(gpu=True)
    assert {case.category for case in rows} == {TENSOR}
    assert {"medium_tensor_gpu", "model_6gb_gpu"} <= set(tensors.row_names(gpu=True))


@needs_torch
@pytest.mark.parametrize("shared", [False, True], ids=["standard", "shared"])
@pytest.mark.parametrize("name", ["tiny_tensor_cpu", "small_tensor_cpu", "medium_tensor_cpu"])
def test_a_tensor_row_has_all_its_series(name: str, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch, allocated = tensors.installed_torch(), []

    def empty(*shape: int, dtype: Any) -> Any:
        allocated.append(torch.empty(shape, dtype=dtype))
        return allocated[-1]

    monkeypatch.setattr("pyisolate.empty", empty, raising=False)
    result = run_case(tensor_case(name), Loopback(share_torch=shared))
    assert (result.status, result.reason) == (Status.SUCCESSFUL, "")
    first = [tensors.FIRST, tensors.FIRST_EMPTY, tensors.AGAIN_LATER] if shared else []
    assert list(result.series_ns) == [tensors.ONE_WAY, tensors.WARM_COPY, *first]
    assert {len(samples) for samples in result.series_ns.values()} == {3}
    # with one for each warm-up, and one that is sent again
    assert len(allocated) == (4 + 5 if shared else 0)
    text = render(report_of([result]))
    assert "Tensors one way, medians:" in text
    print("\n" + text)


@needs_torch
def test_what_is_sent_again_is_one_tensor() -> None:
    fleet: Any = Loopback(share_torch=True)
    operation = tensor_case("tiny_tensor_cpu").prepare(fleet)
    asyncio.run(operation.series[tensors.ONE_WAY](3))
    assert len(fleet.received) == 3
    assert len(set(fleet.received)) == 1


@needs_torch
def test_a_tensor_that_is_not_the_one_that_was_sent_is_a_failure() -> None:
    class Forgetful(Loopback):
        async def echo(self, value: Any) -> Any:
            return value.clone().zero_()

    result = run_case(tensor_case("small_tensor_cpu"), Forgetful(share_torch=False))
    assert (result.status, result.reason.split(":")[0]) == (Status.FAILED, "WrongResult")


@needs_torch
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("OutOfMemoryError", "CUDA OOM: CUDA out of memory. Tried to allocate 6.00 GiB."),
        ("RuntimeError", "CUDA OOM: CUDA out of memory. Tried to allocate 6.00 GiB."),
        ("TimeoutError", "Timeout"),
    ],
)
def test_running_out_of_memory_is_a_failure_with_that_reason(raised: str, expected: str) -> None:
    kind = getattr(tensors.installed_torch(), raised, None) or getattr(builtins, raised)
    error = kind("CUDA out of memory. Tried to allocate 6.00 GiB.\nMore lines")
    result = run_case(tensor_case("tiny_tensor_cpu"), Loopback(share_torch=True, error=error))
    assert (result.status, result.reason) == (Status.FAILED, expected)


@needs_torch
def test_rows_that_cannot_run_are_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def obstacle(name: str, fleet: Any = None, **options: Any) -> str:
        case = tensor_case(name, **options)
        assert case.obstacle
        return asyncio.run(case.obstacle(fleet or Loopback(share_torch=False)))

    monkeypatch.setattr(tensors, "PATIENCE", 0.0)
    monkeypatch.setattr(machine, "available_memory", lambda: 10 * 10**9)
    assert obstacle("tiny_tensor_cpu") == ""
    assert obstacle("large_tensor_cpu", max_bytes=4e6) == "larger than --max-tensor-mb 4"
    refuses = Loopback(share_torch=False, error=TypeError("cannot be sent"))
    assert obstacle("tiny_tensor_cpu", refuses) == "this version cannot send tensors"
    assert obstacle("model_6gb_cpu") == "needs 19.3 GB of memory; 10.0 GB are available"
    shared: Any = Loopback(share_torch=True)
    assert obstacle("model_6gb_cpu", shared) == "needs 12.9 GB of memory; 10.0 GB are available"
    monkeypatch.setattr(tensors.installed_torch().cuda, "is_available", lambda: False)
    assert obstacle("tiny_tensor_gpu").startswith("no CUDA device")
    monkeypatch.setattr(tensors, "installed_torch", lambda: None)
    assert obstacle("tiny_tensor_cpu") == "torch is not installed"


@needs_torch
@pytest.mark.parametrize("mode", ["standard", "shared"])
def test_tensors_cross(mode: str, tmp_path: Path) -> None:
    if obstacle := sharing_obstacle(tmp_path) if mode == "shared" else "":
        pytest.skip(obstacle)
    runner = BenchmarkRunner(warmup=1, runs=3)
    rows = tensors.cases(gpu=False, max_bytes=5e6)
    asyncio.run(benchmark.run_configuration(mode, runner, tmp_path, benchmark.progress_bar(), rows))
    reasons = {result.reason for result in runner.results[:4]}
    if reasons == {"this version cannot send tensors"}:
        pytest.skip(*reasons)
    assert reasons == {""}
    assert [result.name for result in runner.results] == [f"{row.name}_{mode}" for row in rows]
    assert {result.status for result in runner.results[4:]} == {Status.SKIPPED}
    print("\n" + render(report_of(runner.results)))


# ---- the yardsticks ----


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the floor needs two processors")
def test_floor() -> None:
    samples = measure_floor(samples=5, batch=10)
    assert len(samples) == 5
    assert min(samples) > 0


def test_pipe_and_clock() -> None:
    assert len(yardsticks.pipe(5)) == 5
    assert min(yardsticks.pipe(5)) > 0
    assert len(yardsticks.clock(5)) == 5
