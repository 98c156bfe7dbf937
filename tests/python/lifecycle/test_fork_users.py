"""Programs that fork, or execute themselves, with extensions before and after."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paths
import pytest
from processes import gone, run_host, run_python

ECHO = str(paths.EXTENSIONS / "echo")

# ---- servers ----

GUNICORN_APP = """
import json, os, time
from pyisolate import ExtensionBase, ExtensionManager, ForkedProcessError

manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
before = manager.load_extension({"name": "before", "module_path": os.environ["ECHO"]})
unstarted = manager.load_extension({"name": "unstarted", "module_path": os.environ["ECHO"]})
master, master_extension = os.getpid(), before.sync.pid()
loaded = {}

def application(environ, start_response):
    if not loaded:
        loaded["worker"] = manager.load_extension({"name": "worker", "module_path": os.environ["ECHO"]})
    try:
        before.sync.pid()
        error = None
    except ForkedProcessError as forked:
        error = str(forked)
    time.sleep(0.2)  # the other worker takes the next request
    answer = {
        "master": master,
        "worker": os.getpid(),
        "pids": [loaded["worker"].sync.pid(), unstarted.sync.pid()],
        "error": error,
        "master_extension": master_extension,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""

UVICORN_APP = """
import asyncio, json, os
from pyisolate import ExtensionBase, ExtensionManager

manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
extension = manager.load_extension({"name": "worker", "module_path": os.environ["ECHO"]})

async def app(scope, receive, send):
    assert scope["type"] == "http"
    answer = {"worker": os.getpid(), "pids": [await extension.pid()]}
    await asyncio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""


def get(path: Path) -> Any:
    """Return the reply of the server at this socket; None when nothing listens."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        try:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
            text = b""
            while data := client.recv(65536):
                text += data
        except (FileNotFoundError, ConnectionError):
            return None
    head, _, body = text.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], text
    return json.loads(body)


@contextmanager
def server(arguments: list[str], folder: Path, app: str) -> Iterator[Callable[[], list[Any]]]:
    """A function that asks the server until both workers have replied."""
    (folder / "app.py").write_text(app)
    path = folder / "socket"
    environ = {**os.environ, "ECHO": ECHO, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def ask() -> list[Any]:
        answers: dict[int, Any] = {}
        deadline = time.monotonic() + 60
        while len(answers) < 2 and time.monotonic() < deadline:
            answer = get(path)
            if answer is not None:
                answers[answer["worker"]] = answer
            else:
                assert process.poll() is None, process.communicate()[0].decode()
                time.sleep(0.05)
        return list(answers.values())

    try:
        yield ask
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0].decode()
        assert process.returncode in (0, -signal.SIGTERM), output
        assert "Traceback" not in output, output
    finally:
        process.kill()
        process.communicate()


def test_gunicorn_with_preload(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    arguments = ["gunicorn", "--preload", "--workers", "2", "--bind", f"unix:{tmp_path / 'socket'}", "app"]
    with server(arguments, tmp_path, GUNICORN_APP) as ask:
        answers = ask()
        assert len(answers) == 2
        for answer in answers:
            assert answer["error"] == (
                "extension 'before' was started by the process that forked this one; load it again in this "
                "process"
            )
        pids = [pid for answer in answers for pid in answer["pids"]]
        assert len(set(pids)) == 4
        assert answers[0]["master_extension"] not in pids
    assert all(map(gone, [*pids, answers[0]["master_extension"]]))


def test_uvicorn_with_two_workers(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    arguments = ["uvicorn", "--workers", "2", "--uds", str(tmp_path / "socket"), "app:app"]
    with server(arguments, tmp_path, UVICORN_APP) as ask:
        answers = ask()
        assert len(answers) == 2
        pids = [answer["pids"][0] for answer in answers]
        assert len(set(pids)) == 2
    assert all(map(gone, pids))


# ---- pytest-xdist ----

XDIST_TEST = """
import os
import pytest
from pyisolate import ExtensionBase, ExtensionManager

@pytest.fixture(scope="module")
def extension():
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    yield manager.load_extension({"name": "echo", "module_path": os.environ["ECHO"]})
    manager.stop_all_extensions()

@pytest.mark.parametrize("number", range(6))
def test_it(extension, number):
    assert extension.sync.echo(number) == number
"""


def test_pytest_xdist(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "test_it.py").write_text(XDIST_TEST)
    options = ["-q", "-n2", "-pno:cacheprovider", "-pno:hypothesispytest", "--rootdir=.", "test_it.py"]
    done = run_python(["-m", "pytest", *options], tmp_path, environ={"ECHO": ECHO})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


# ---- multiprocessing, in the host ----

MULTIPROCESSING = """
import json, multiprocessing, os, sys
from pyisolate import ExtensionBase, ExtensionManager

def work(number):
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "echo", "module_path": sys.argv[1]})
    answer = extension.sync.echo(number), extension.sync.pid()
    manager.stop_all_extensions()
    return answer

def main():
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "echo", "module_path": sys.argv[1]})
    mine = extension.sync.pid()
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        answers = pool.map(work, range(3), chunksize=1)
        pool.close()
        pool.join()
    assert extension.sync.pid() == mine
    manager.stop_all_extensions()
    print(json.dumps(answers))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    answers = run_host(MULTIPROCESSING, tmp_path, [ECHO, method])
    assert [number for number, _ in answers] == [0, 1, 2]
    assert all(gone(pid) for _, pid in answers)


# ---- other ways to fork ----

WAYS = """
import json, os, signal, subprocess, sys, threading, traceback
from pyisolate import ExtensionBase, ExtensionManager

manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})

def load(name):
    return manager.load_extension({"name": name, "module_path": sys.argv[1]})

def use():
    extension = load("again")
    assert extension.sync.echo(7) == 7
    manager.stop_all_extensions()

def leave(act):
    status = 1
    try:
        signal.alarm(50)
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

def fork(act):
    pid = os.fork()
    if pid == 0:
        leave(act)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def in_thread():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(fork(use)))
    thread.start()
    thread.join()
    return statuses[0]

def daemon():
    "Twice, in a session of its own, without any descriptor of the parent's."
    reading, writing = os.pipe()
    def daemonise():
        os.setsid()
        if os.fork() == 0:
            os.dup2(writing, 3)
            os.closerange(4, 1024)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1):
                os.dup2(null, fd)
            # under numbers that stood for the parent's
            held = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
            use()
            assert all(os.path.samestat(os.fstat(fd), os.stat(os.devnull)) for fd in held)
            os.write(3, b"good")
    assert fork(daemonise) == 0
    os.close(writing)
    return 0 if os.read(reading, 100) == b"good" else 1

def programs():
    "By vfork or posix_spawn, and by fork with code between."
    for options in ({}, {"close_fds": False}, {"preexec_fn": os.setsid}, {"start_new_session": True}):
        subprocess.run([sys.executable, "-c", "pass"], check=True, **options)
    if hasattr(os, "posix_spawn"):
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ)
        assert os.waitpid(pid, 0)[1] == 0
    return 0

def replaced():
    "A child that becomes another program, which is a host itself."
    return fork(lambda: os.execv(sys.executable, [sys.executable, sys.argv[0], sys.argv[1], "nested"]))

def main():
    kept = load("again")
    pid = kept.sync.pid()
    results = {} if "nested" in sys.argv else {"replaced": replaced()}
    results |= {
        "child": fork(use),
        "grandchild": fork(lambda: os._exit(fork(use))),
        "thread": in_thread(),
        "daemon": daemon(),
        "programs": programs(),
        "left at once": fork(lambda: os._exit(0)),
    }
    assert kept.sync.pid() == pid
    manager.stop_all_extensions()
    if "nested" in sys.argv:
        sys.exit(any(results.values()))
    print(json.dumps(results))

if __name__ == "__main__":
    main()
"""


def test_ways_to_fork(tmp_path: Path) -> None:
    assert set(run_host(WAYS, tmp_path, [ECHO]).values()) == {0}


# ---- Jupyter ----

CELL = """
import os
from pyisolate import ExtensionBase, ExtensionManager
manager = ExtensionManager(ExtensionBase, {{"venv_root_path": {venvs!r}}})
extension = manager.load_extension({{"name": "echo", "module_path": {echo!r}}})
print(await extension.pid(), extension.sync.echo(5))
"""


def test_the_kernel_of_a_notebook_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager_module = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    kernel = manager_module.KernelManager()
    kernel.kernel_spec.argv[0] = sys.executable
    cell = CELL.format(venvs=str(tmp_path / "venvs"), echo=ECHO)

    def run() -> int:
        client = kernel.client()
        client.start_channels()
        lines: list[str] = []

        def on_output(message: Any) -> None:
            content = message["content"]
            lines.append(content["text"] if message["msg_type"] == "stream" else str(content))

        try:
            client.wait_for_ready(timeout=60)
            reply = client.execute_interactive(cell, timeout=60, output_hook=on_output)
            assert reply["content"]["status"] == "ok", lines
        finally:
            client.stop_channels()
        text = next(line for line in lines if line.endswith(" 5\n"))
        return int(text.split()[0])

    kernel.start_kernel(cwd=str(tmp_path))
    try:
        first = run()
        kernel.restart_kernel(now=True)
        assert gone(first)
        second = run()
        assert second != first
    finally:
        with suppress(Exception):
            kernel.shutdown_kernel(now=True)
    assert gone(second)
