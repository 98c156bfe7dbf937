"""Files, locks and resources of a confined process that affect its host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import paths
import pytest

from pyisolate import Extension

Load = Callable[..., Extension]
PRISONER = paths.EXTENSIONS / "prisoner"


def test_what_it_left_can_be_removed(load: Load, tmp_path: Path) -> None:
    """At any depth: otherwise the host fails to stop this one, and others fail to start."""
    extension = load("prisoner")
    folder = extension.sync.folder()
    extension.sync.dig(1100)
    extension.stop()
    assert not os.path.exists(folder)


def test_its_entry_in_proc_stays_readable(load: Load) -> None:
    extension = load("prisoner")
    paths = ["/proc/self/status", "/proc/cpuinfo", "/proc/meminfo"]
    assert all(extension.sync.lock(path) for path in paths)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError:
        pytest.skip("only root can make the kernel forget inodes")
    assert all(extension.sync.lock(path) for path in paths)


FULL = """
import sys
from pyisolate import ExtensionBase, ExtensionManager

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    def load(name):
        return manager.load_extension({"name": name, "module_path": sys.argv[1]})
    first, second = load("first"), load("second")
    assert first.sync.fill_sockets() > 500
    assert second.sync.descriptors()
    manager.stop_all_extensions()
"""


def test_descriptors_under_way_are_the_users(tmp_path: Path) -> None:
    """The kernel counts descriptors in transit per user; without privileges the host could send none."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("only with setpriv can root give up what exempts it")
    privileges = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    (tmp_path / "host.py").write_text(FULL)
    done = subprocess.run(
        [
            *(privileges if os.geteuid() == 0 else []),
            *("bash", "-c", 'ulimit -Sn 1024; ulimit -Hn 4096; exec "$@"', "bash"),
            *(sys.executable, "host.py", str(PRISONER)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
