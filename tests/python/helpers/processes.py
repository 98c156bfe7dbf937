"""Checks whether processes run, and hosts in separate programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyisolate._host.zygote import zygotes


def keeper_pids() -> list[int]:
    """Return the pid of the parent of executed extensions, if there is one."""
    keeper = zygotes._keeper.zygote
    return [keeper.pid] if keeper is not None else []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Return whether the process ends within seconds, even if a container's first process reaps nothing."""
    deadline = time.monotonic() + 10
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return has_ended(pid)


def has_ended(pid: int) -> bool:
    """Return whether the process has ended, even if it was not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith(("Z", "X"))
    except OSError:
        return True


def run_python(
    arguments: Sequence[str],
    folder: Path,
    *,
    wrapper: Sequence[str] = (),
    source: str | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a program in this interpreter in `folder`, under `wrapper`, with `source` as its standard input."""
    return subprocess.run(
        [*wrapper, sys.executable, *arguments],
        input=source,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_host(
    source: str, folder: Path, arguments: Sequence[str], wrapper: Sequence[str] = (), timeout: float = 60
) -> Any:
    """Write `source` to `folder`, run it there under `wrapper`, and return what it prints as JSON."""
    (folder / "host.py").write_text(source)
    environ = {"TMPDIR": str(folder)}
    done = run_python(["host.py", *arguments], folder, wrapper=wrapper, environ=environ, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
