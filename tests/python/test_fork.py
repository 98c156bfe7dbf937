"""A host that forks: its extensions stay its own, whatever the forked process does with what it inherits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import ECHO, peer

from pyisolate import _core

EXTENSION = """
import os, tempfile
from pyisolate import ExtensionBase

class Writer(ExtensionBase):
    def write(self, text):
        with open(os.path.join(tempfile.gettempdir(), "file"), "w") as file:
            file.write(text)
        print(text, flush=True)
"""

PROGRAM = """
import gc, logging, os, sys, threading
from pyisolate import ExtensionBase, ExtensionManager

written = threading.Event()

class Handler(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "after":
            written.set()

def main():
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "writer", "module_path": "writer", "echo_output": False})
    extension.sync.write("before")
    child = os.fork()
    if child == 0:
        END
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    extension.sync.write("after")
    assert written.wait(20), "nobody reads the extension's output"
    manager.stop_all_extensions()
    print("good")

logging.getLogger("pyisolate.extension").setLevel(logging.INFO)
logging.getLogger("pyisolate.extension").addHandler(Handler())
if __name__ == "__main__":
    main()
"""

ENDS = {
    "exits": "pass",
    "stops them": "manager.stop_all_extensions()",
    "drops them": "del extension, manager; gc.collect()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_forked_process_leaves_the_extensions_of_its_host_alone(tmp_path: Path, end: str) -> None:
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "__init__.py").write_text(EXTENSION)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("END", end))
    ended = subprocess.run(
        # from 3.12 on Python warns of forks of processes with threads, which this is about
        [sys.executable, "-W", "ignore::DeprecationWarning", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.returncode) == ("good\n", 0), ended.stderr
    assert ended.stderr == ""


def test_a_forked_process_leaves_the_loop_of_its_host_alone() -> None:
    """It shares the loop's epoll, so what it inherited must not be taken out there."""

    async def main(session: _core.Session) -> None:
        echo = session.method(1, "later")
        assert await echo(1) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                session.close()
                code = sum(len(str(i)) == 0 for i in range(1000))  # what is raised later has its chance
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert await echo(2) == 2

    with peer(ECHO) as session:
        asyncio.run(main(session))
