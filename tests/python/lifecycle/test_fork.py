"""A host that forks: its extensions stay its own, whatever the forked process does with inherited objects."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import paths
import pytest
from peers import ECHO, peer
from processes import run_host

from pyisolate import _core

EXTENSIONS = paths.EXTENSIONS

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
        # from 3.12 on Python warns of forks in processes with threads, which these tests make
        [sys.executable, "-W", "ignore::DeprecationWarning", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.returncode) == ("good\n", 0), ended.stderr
    assert ended.stderr == ""


def test_a_forked_process_leaves_the_loop_of_its_host_alone() -> None:
    """It shares the loop's epoll instance, so inherited descriptors must not be removed from it."""

    async def main(session: _core.Session) -> None:
        echo = session.method(1, "later")
        assert await echo(1) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                session.close()
                code = sum(len(str(i)) == 0 for i in range(1000))  # so that later exceptions show
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert await echo(2) == 2

    with peer(ECHO) as session:
        asyncio.run(main(session))


HANDLER = """
import json, os, sys
from peers import peer
from pyisolate import ForkedProcessError

ASKS = '''
class Peer:
    def ask(self, code):
        return host("fork", sync=True)(code)
'''

class Host:
    def fork(self, code):
        pid = os.fork()
        if pid == 0:
            exec(code)
            return "from the child"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def main():
    with peer(ASKS, Host()) as session:
        ask, parent, statuses = session.method(1, "ask", sync=True), os.getpid(), []
        for code in ("sys.exit(5)", "1 / 0", "os._exit(6)", "pass"):
            try:
                statuses.append(ask(code))
            except ForkedProcessError:  # the child goes on where the program waited for the answer
                assert os.getpid() != parent
                os._exit(7)
    print(json.dumps(statuses))

if __name__ == "__main__":
    main()
"""


def test_a_handler_of_the_host_forks(tmp_path: Path) -> None:
    """The child ends with the handler's exception, or continues where the host waits; it sends no reply."""
    assert run_host(HANDLER, tmp_path, []) == [5, 1, 6, 7]


STRESS = """
import json, os, signal, sys, threading, traceback
import numpy
import pyisolate
from pyisolate import ExtensionBase, ExtensionManager

FORKS, AT_ONCE = 50, 4

def new_manager():
    return ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})

def load(manager, name, method="auto"):
    return manager.load_extension({"name": name, "module_path": sys.argv[1], "start_method": method})

def in_child(number, manager, kept):
    array = pyisolate.empty_array((10,), numpy.int32)
    array[:] = 3
    try:
        kept.sync.echo(1)
    except pyisolate.ForkedProcessError:
        pass
    else:
        raise AssertionError("an extension of the parent's answers")
    # by a zygote of its own, which takes longer, or without one
    extension = load(manager, "child", "auto" if number % 5 == 0 else "exec")
    assert extension.sync.echo(5) == 5
    manager.stop_all_extensions()

def main():
    manager, over, faults = new_manager(), threading.Event(), []
    kept = load(manager, "kept")
    kept.sync.echo(1)

    def arrays():
        pyisolate.empty_array((100,), numpy.float64)[:] = 1

    def loading(count=iter(range(1_000_000))):
        extension = load(manager, f"e{next(count)}")
        extension.sync.echo(1)
        manager.stop_extension(extension.name)

    def calling():
        assert kept.sync.echo(b"x" * 100_000) == b"x" * 100_000

    def repeat(act):
        try:
            while not over.is_set():
                act()
        except BaseException:
            faults.append(traceback.format_exc())

    threads = [threading.Thread(target=repeat, args=(act,)) for act in (arrays, loading, calling)]
    for thread in threads:
        thread.start()
    running, statuses = [], []
    for i in range(FORKS):
        if len(running) == AT_ONCE:
            statuses.append(os.waitpid(running.pop(0), 0)[1])
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(100)
                in_child(i, manager if i % 2 else new_manager(), kept)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        running.append(pid)
    statuses += [os.waitpid(pid, 0)[1] for pid in running]
    over.set()
    for thread in threads:
        thread.join()
    manager.stop_all_extensions()
    print(json.dumps([statuses, faults]))

if __name__ == "__main__":
    main()
"""


def test_threads_may_do_anything_while_another_forks(tmp_path: Path) -> None:
    """Operations that take locks work in the forked process, too."""
    pytest.importorskip("numpy")
    statuses, faults = run_host(STRESS, tmp_path, [str(EXTENSIONS / "echo")], timeout=110)
    assert faults == []
    assert statuses == [0] * 50
