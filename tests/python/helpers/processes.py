"""Whether processes run, and hosts that are programs of their own."""

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
    """Of the parent of extensions that are executed, if it is there."""
    keeper = zygotes._keeper.zygote
    return [keeper.pid] if keeper is not None else []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Whether the process ends, within seconds; also where the first process of a container reaps nobody."""
    deadline = time.monotonic() + 10
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return has_ended(pid)


def has_ended(pid: int) -> bool:
    """Also when nobody has asked for its status yet."""
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
    """A program that this interpreter has run in `folder`, under `wrapper`; `source` is what it reads."""
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
    """What a host program prints as JSON: `source`, written to `folder` and run there, under `wrapper`."""
    (folder / "host.py").write_text(source)
    environ = {"TMPDIR": str(folder)}
    done = run_python(["host.py", *arguments], folder, wrapper=wrapper, environ=environ, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
