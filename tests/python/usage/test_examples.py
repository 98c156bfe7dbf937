"""The examples print what their documentation says."""

from __future__ import annotations

import re
import subprocess
import sys

import paths
import pytest

import pyisolate

EXAMPLES = paths.ROOT / "examples"


def output_of(example: str) -> list[str]:
    """Return the lines that the example prints. It must succeed, and print no warning."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / example / "host.py"], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    return done.stdout.splitlines()


def test_quickstart() -> None:
    assert output_of("quickstart") == [
        "Hello, world",
        "The extension runs in another process: True",
        "Exceptions arrive as they were raised: whom?",
    ]


def test_sync_calls() -> None:
    assert output_of("sync_calls") == [
        "One line: 6",
        "From threads: [6, 4, 7]",
        "Most common: [('to', 2), ('be', 2)]",
    ]


def test_own_classes() -> None:
    assert output_of("own_classes") == [
        "Receipt of 650 cents: tea, cake",
        "Refused: 'refund' at -1000000 cents is no item of a receipt",
    ]


def test_singletons() -> None:
    assert output_of("singletons") == [
        "ada has 10 points",
        "grace has 18 points",
        "The winner is grace",
    ]


def test_progress() -> None:
    assert output_of("progress") == ["25%", "50%", "75%", "100%", "4 lines", "stopped at 75%"]


def test_shared_model() -> None:
    assert output_of("shared_model") == [
        "The host has <pyisolate.Ref to a Model of 'models'>",
        "Nearest to 'bone': noble",
        "At home it is a Model named letters",
        "Models in memory: 1",
        "Models after the release: 0",
    ]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="NumPy 1.26 has no wheels for Python 3.13")
def test_numpy_versions() -> None:
    legacy, modern, *rest = output_of("numpy_versions")
    assert re.fullmatch(r"legacy has NumPy 1\.26\.\d+", legacy)
    assert re.fullmatch(r"modern has NumPy [2-9]\.\S+", modern)
    assert rest == [
        "Product of all, by legacy: 13824.0",
        "Counts of values, by modern: {0: 3, 1: 3, 2: 3, 3: 3}",
        "From legacy through the host to modern: 205061801.0",
    ]


def test_tensors() -> None:
    pytest.importorskip("torch")
    if not hasattr(pyisolate, "empty"):
        pytest.skip("this version cannot share tensors")
    assert output_of("tensors") == [
        "The extension sees brightness 0.5",
        "The host sees brightness 0.25",
    ]


def test_every_example_is_listed_and_tested() -> None:
    names = {path.parent.name for path in EXAMPLES.glob("*/host.py")}
    readme = (EXAMPLES / "README.md").read_text()
    assert {name for name in names if f"[{name}]({name}/host.py)" in readme} == names
    assert {name for name in names if f"test_{name}" in globals()} == names
