"""Whole programs: classes of the main module, and ends of the host that take its extensions with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import gone

EXTENSIONS = Path(__file__).parent / "extensions"

PROGRAM = """
import asyncio, enum, os, sys
from pyisolate import ExtensionBase, ExtensionManager, ProxiedSingleton, register_type

@register_type
class Size(enum.Enum):
    BIG = 1

class Api(ProxiedSingleton):
    def pid(self):
        return os.getpid()

class Mine(ExtensionBase):
    async def ask(self):
        return await Api().pid()
    def size(self):
        return Size.BIG

def load():
    manager = ExtensionManager(Mine, {{"venv_root_path": "venvs"}})
    return manager.load_extension({{"name": "ext", "module_path": {echo!r}, "apis": [Api]}})
"""


def run_program(tmp_path: Path, rest: str, *, module: bool = False) -> subprocess.CompletedProcess[str]:
    source = PROGRAM.format(echo=str(EXTENSIONS / "echo")) + textwrap.dedent(rest)
    (tmp_path / "program.py").write_text(source)
    command = [sys.executable, *(["-m", "program"] if module else ["program.py"])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("module", [False, True])
def test_classes_of_the_main_program(tmp_path: Path, module: bool) -> None:
    ended = run_program(
        tmp_path,
        """
        if __name__ == "__main__":
            extension = load()
            assert extension.sync.ask() == os.getpid()
            assert extension.sync.size() is Size.BIG
            extension.stop()
            print("fine")
        """,
        module=module,
    )
    assert (ended.stdout, ended.returncode) == ("fine\n", 0), ended.stderr


def test_a_main_program_without_guard_is_told(tmp_path: Path) -> None:
    ended = run_program(tmp_path, "load().sync.ask()")
    assert ended.returncode == 1
    assert 'if __name__ == "__main__"' in ended.stderr


def test_the_end_of_the_program_ends_extensions_at_once(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        class Mine(Mine):
            async def stop(self):
                await asyncio.sleep(60)
            def pid(self):
                return os.getpid()
        if __name__ == "__main__":
            print(load().sync.pid())
        """,
    )
    assert ended.returncode == 0, ended.stderr
    assert gone(int(ended.stdout))


def test_a_killed_program_takes_its_extensions_with_it(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        if __name__ == "__main__":
            extension = load()
            extension.ensure_process_started()
            print(extension._runtime._session.pid, flush=True)
            os.kill(os.getpid(), 9)
        """,
    )
    assert ended.returncode == -signal.SIGKILL
    assert gone(int(ended.stdout))
