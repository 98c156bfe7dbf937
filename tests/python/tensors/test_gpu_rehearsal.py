"""A rehearsal of tests/gpu on a pretended GPU, so that its tests are correct on a real one.

It shows nothing about a GPU (see tests/python/rehearsal), only that names, fixtures and
waits are correct.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import paths
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

ROOT = paths.ROOT
COMPILER = shutil.which("cc")
SLOW = "not expanded and not thousand and not streams and not forwarding and not frees and not frozen"
"""Tests of paths that other tests also take are omitted."""
SKIPPED = {
    "needs two GPUs",
    "this torch has no functions in C for that (from 2.10 on): it is asked in Python",
}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler for the mock of the driver")


def test_the_functions_that_are_asked_for_are_those_that_are_used() -> None:
    """The list in tests/gpu/driver.py has the functions that src/gpu/cuda_driver.c uses."""
    asked = re.findall(r'"(cu[A-Z]\w+)"', (ROOT / "tests/gpu/driver.py").read_text().partition("USED")[2])
    asked = asked[: asked.index("cuGetErrorName") + 1]
    used = re.findall(r'SYMBOL\(\w+, "(\w+)"', (ROOT / "src/gpu/cuda_driver.c").read_text())
    uuid = {"cuDeviceGetUuid", "cuDeviceGetUuid_v2"}
    assert set(asked) - uuid == set(used) - uuid


@pytest.mark.timeout(500)
def test_each_test_runs_to_its_end_on_a_pretended_gpu(tmp_path: Path) -> None:
    memory, driver = tmp_path / "memory", tmp_path / "driver"
    memory.mkdir()
    driver.mkdir()
    options = ["-shared", "-fPIC", "-D_GNU_SOURCE", "-Wl,-soname,libcuda.so.1"]
    source = ROOT / "tests/c/mock_cuda.c"
    subprocess.run([str(COMPILER), *options, "-o", str(driver / "libcuda.so.1"), str(source)], check=True)
    environ = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver),
        "PYTHONPATH": str(ROOT / "tests/python/rehearsal"),
        "CUDA_MOCK_HELPERS": str(ROOT / "tests/python/helpers"),
        "CUDA_MOCK_FOLDER": str(memory),
        "CUDA_MOCK_MEMORY": str(3 << 30),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/gpu/run.py"), "--results", str(tmp_path / "results"), "-k", SLOW],
        env=environ,
        cwd=sysconfig.get_path("purelib"),  # not the sources
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert " 0 failed, 0 died" in done.stdout
    assert set(re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", done.stdout, re.MULTILINE)) <= SKIPPED
