"""Short forms of the soak tests; see docs/reliability.md."""

from __future__ import annotations

import os
import subprocess
import sys

import paths
import pytest

SOAK = paths.ROOT / "tests" / "soak" / "soak.py"


@pytest.mark.parametrize(
    "arguments",
    [
        *(["load", "--seconds", "4"], ["kills", "--count", "50"], ["crashes", "--seconds", "4"]),
        ["references", "--count", "22000"],
    ],
)
def test_no_call_fails_and_nothing_is_left(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
