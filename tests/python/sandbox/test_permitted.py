"""Everyday operations of programs work in a confined extension, and none is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyisolate import Extension

SOURCE = """
import asyncio, fcntl, json, mmap, os, resource, select, shutil, signal, sqlite3, ssl, subprocess
import tempfile, threading
from concurrent.futures import ThreadPoolExecutor
from pyisolate import ExtensionBase

class Permitted(ExtensionBase):
    def run(self, code):
        scope = dict(globals(), folder=tempfile.mkdtemp())
        exec(code, scope)
        return scope.get("result")
"""
Load = Callable[..., Extension]

WORK = {
    "pipes with names": """
path = os.path.join(folder, "pipe")
os.mkfifo(path)
reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
writing = os.open(path, os.O_WRONLY)
os.write(writing, b"x")
result = os.read(reading, 1) == b"x"
""",
    "own priority and processors": """
os.nice(1)
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.setpriority(os.PRIO_PROCESS, os.getpid(), os.getpriority(os.PRIO_PROCESS, 0))
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
result = True
""",
    "locks and descriptors": """
with open(os.path.join(folder, "locked"), "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
    fcntl.fcntl(file, 1030, 10)
    os.set_blocking(file.fileno(), False)
    result = not os.isatty(file.fileno())
""",
    "databases": """
database = sqlite3.connect(os.path.join(folder, "database"))
database.execute("pragma journal_mode = wal")
with database:
    database.execute("create table t(x)")
    database.execute("insert into t values (1)")
result = database.execute("select x from t").fetchall() == [(1,)]
""",
    "threads": """
with ThreadPoolExecutor(8) as pool:
    result = list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))
""",
    "programs": """
done = subprocess.run("echo one | cat; sleep 0; env >/dev/null", shell=True, capture_output=True, text=True)
result = (done.stdout, done.returncode) == ("one\\n", 0)
""",
    "programs of a loop": """
async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    return (await process.communicate(b"text"))[0]
found = []
thread = threading.Thread(target=lambda: found.append(asyncio.run(main())))
thread.start(); thread.join()
result = found == [b"text"]
""",
    "copies with their modes and times": """
if not modes:
    os.chmod = os.utime = lambda *a, **k: None
shutil.copytree(os.path.dirname(json.__file__), os.path.join(folder, "copy"))
shutil.rmtree(os.path.join(folder, "copy"))
result = True
""",
    "timers and signals": """
seen = []
def later():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), 0)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    seen.append(signal.sigwait([signal.SIGUSR1]))
thread = threading.Thread(target=later)
thread.start(); thread.join()
poll = select.epoll(); poll.close()
result = seen == [signal.SIGUSR1]
""",
    "certificates and shared maps": """
ssl.create_default_context()
shared = mmap.mmap(-1, 1 << 16)
shared.madvise(mmap.MADV_DONTNEED)
os.posix_fallocate(os.memfd_create("m"), 0, 1 << 16)
result = True
""",
    "children and their own children": """
pid = os.fork()
if pid == 0:
    os._exit(subprocess.run(["true"]).returncode + 5)
result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
""",
}


@pytest.fixture
def permitted(load: Load, tmp_path: Path) -> Callable[..., Extension]:
    folder = tmp_path / "permitted"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    return lambda **config: load(module_path=str(folder), **config)


@pytest.mark.parametrize("name", WORK)
def test_it_works(permitted: Load, name: str) -> None:
    extension = permitted()
    extension.ensure_process_started()
    modes = extension.sandbox_status().layers["namespaces"].active
    assert extension.sync.run(f"modes = {modes}\n" + WORK[name])
    refused = {one.call for one in extension.sandbox_status().refused or ()}
    # As root, SQLite gives a journal the owner of its database, and continues if that is refused.
    assert refused == set() or (not modes and name == "databases" and refused == {"fchown"})


def test_openmp_binds_its_threads(permitted: Load) -> None:
    """It ends the process if it is told to and fails."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    extension = permitted(env={"OMP_PROC_BIND": "true", "OMP_NUM_THREADS": "4"})
    extension.ensure_process_started()
    if extension.sandbox_status().refused is None:
        pytest.skip("no listener can be had here, which looks whose threads they are")
    code = """
import torch
x = torch.ones(1 << 20)
y = torch.nn.functional.conv2d(torch.ones(1, 3, 64, 64), torch.ones(8, 3, 3, 3))
result = float((x + x).sum() + y.sum())
"""
    assert extension.sync.run(code) > 0
    assert not extension.sandbox_status().refused
