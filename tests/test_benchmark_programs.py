"""The programs in benchmarks/ run, take options and print what they promise; no test looks at a time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_tables import table

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import benchmark  # noqa: E402
import simple_benchmark  # noqa: E402
from rpcbench import tensors  # noqa: E402
from rpcbench.cases import CASES  # noqa: E402


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "benchmark.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    limits = ["--max-seconds", "0.2", "--max-tensor-mb", "5"]
    done = run_benchmark("--quick", "--no-gpu", *limits, "--json", str(file))
    print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(done.stdout, "Successful Benchmarks")
    skipped = table(done.stdout, "Skipped Tests")
    plain = {re.sub("_(standard|shared)$", "", row): row for row in (*rows, *skipped)}
    assert list(plain) == [case.name for case in CASES] + tensors.row_names(gpu=False)
    assert all(plain[case.name] in rows for case in CASES)
    assert {"image_8k_cpu_shared", "model_6gb_cpu_shared"} <= set(skipped)
    assert all(float(cell) >= 0 for cells in rows.values() for cell in cells)
    assert "\nSandbox: required (extensions are confined)\n" in done.stdout
    found = json.loads(file.read_text())
    assert found["options"]["sandbox"] == "required"
    assert {"machine", "versions", "date", "options", "results", "floor_ns"} <= set(found)
    samples = {result["name"]: result["samples_ns"] for result in found["results"]}
    assert all(0 < len(samples[row]) <= 100 for row in rows)
    total = len(rows) + len(skipped)
    assert (
        f"Summary: {len(rows)} successful, 0 failed, {len(skipped)} skipped (Total: {total})" in done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"quick": False, "no_torch": False, "no_gpu": False, "torch_mode": "shared"}),
        (["--quick", "--no-torch", "--no-gpu"], {"quick": True, "no_torch": True, "no_gpu": True}),
        (["--torch-mode", "both"], {"torch_mode": "both", "sandbox": "required"}),
        (["--sandbox", "disabled"], {"sandbox": "disabled"}),
    ],
)
def test_options(arguments: list[str], expected: dict[str, Any]) -> None:
    assert vars(benchmark.parse(arguments)).items() >= expected.items()


@pytest.mark.parametrize(
    "arguments", [["--torch-mode", "other"], ["--max-seconds", "0"], ["--sandbox", "perhaps"]]
)
def test_wrong_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_quick_benchmark_on_the_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the example whose environment has to be installed."""
    without = [each for each in simple_benchmark.examples() if "dependencies" not in each.configuration]
    missing = simple_benchmark.Example("no/such", [simple_benchmark.examples()[0].rows[0]], {})
    monkeypatch.setattr(simple_benchmark, "examples", lambda: [*without, missing])
    monkeypatch.setattr(simple_benchmark, "RUNS", 3)
    assert simple_benchmark.main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Sandbox: required (extensions are confined)\n")
    print("\n" + text)
    rows = table("Successful Benchmarks:\n" + text.partition("\n\n")[2], "Successful Benchmarks")
    assert {"small_int", "small_string", "text_4kb", "text_4kb_sync", "singleton"} <= set(rows)
    assert {cells[-1] for cells in rows.values()} == {"3"}
    skipped = table(text, "Skipped Tests")
    assert skipped.pop("small_int")[0].startswith("such does not start: ")
    sizes = [
        name for name in tensors.row_names(gpu=True) if not name.startswith(simple_benchmark.LARGE_TENSORS)
    ]
    found = {re.sub("_(standard|shared)$", "", row) for row in [*rows, *skipped] if "_tensor_" in row}
    assert found == set(sizes)


def test_quick_benchmark_has_large_tensors_on_request() -> None:
    names = [row.name for row in simple_benchmark.tensor_example(shared=True, large=True).rows]
    assert names == [f"{name}_shared" for name in tensors.row_names(gpu=True)]


@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("memory_flat.py", ["--calls", "100", "--large", "5"], ["small integer", "8 MB array"]),
        ("idle.py", ["--extensions", "2", "--seconds", "0.1"], ["host", "extensions"]),
        ("first_start.py", ["--starts", "1"], ["first start", "ratio"]),
        ("sandbox_cost.py", ["--starts", "2", "--calls", "10"], ["start, fork (ms)", "call, exec (us)"]),
        (
            "load.py",
            ["--seconds", "0.02"],
            [
                *("after 100 ms", "call 10 of a burst", "10,000 calls/s: processor time"),
                *("8 processes, 600 µs of work: calls/s", "pyisolate.gather"),
            ],
        ),
    ],
)
def test_checks_run(script: str, arguments: list[str], rows: list[str]) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert all(f"| {row} " in done.stdout for row in rows)
