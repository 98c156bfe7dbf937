"""Calls that the sandbox has refused are reported: in the status, and in the extension's next error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import run_python
from waiting import eventually

from pyisolate import Extension, SandboxMode
from pyisolate._sandbox.refused_calls import Refusal, RefusalNotes, refused_calls

SOURCE = """
import ctypes, errno, fcntl, os, socket, subprocess, sys, threading
from pyisolate import ExtensionBase

LIBC = ctypes.CDLL(None, use_errno=True)

class Refused(ExtensionBase):
    def run(self, code):
        scope = dict(globals())
        exec(code, scope)
        return scope.get("result")
"""

NAMESPACES = 1 << 5
UNKNOWN_CALL = "LIBC.syscall(ctypes.c_long(463 + 100), 0, 0, 0); result = ctypes.get_errno()"
Load = Callable[..., Extension]


@pytest.fixture
def refused(load: Load, tmp_path: Path) -> Callable[..., Extension]:
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    return lambda **config: load(module_path=str(folder), **config)


@pytest.fixture(params=["fork", "exec"])
def extension(request: pytest.FixtureRequest, refused: Load) -> Extension:
    extension = refused(start_method=request.param)
    extension.ensure_process_started()
    if extension.sandbox_status().refused is None:
        pytest.skip("no listener can be had here, so what is refused is not known")
    return extension


def of_the_test(extension: Extension, *names: str) -> list[Refusal]:
    return [one for one in extension.sandbox_status().refused or () if one.call.startswith(names)]


def test_the_status_names_the_first_of_each_kind(extension: Extension) -> None:
    code = """
import contextlib
for family, kind in (("INET", "STREAM"), ("INET", "STREAM"), ("UNIX", "DGRAM"), ("ALG", "SEQPACKET")):
    with contextlib.suppress(OSError):
        socket.socket(getattr(socket, "AF_" + family), getattr(socket, "SOCK_" + kind))
"""
    assert not of_the_test(extension, "socket")
    extension.sync.run(code)
    assert of_the_test(extension, "socket") == [
        Refusal("socket(AF_INET, SOCK_STREAM)", "EPERM", 2),
        Refusal("socket(AF_UNIX, SOCK_DGRAM)", "ESOCKTNOSUPPORT", 1),
        Refusal("socket(AF_ALG, SOCK_SEQPACKET)", "EAFNOSUPPORT", 1),
    ]
    assert "refused: " in str(extension.sandbox_status())
    assert "socket(AF_INET, SOCK_STREAM): EPERM, 2 times" in str(extension.sandbox_status())


class Told:
    """A session with a record of refused calls."""

    def __init__(self, *kinds: tuple[str | None, int, tuple[int, int], int, int]) -> None:
        self.kinds: list[tuple[str | None, int, tuple[int, int], int, int]] | None = list(kinds)

    def on_refused(self, hook: Any) -> None:
        self.hook = hook

    def refusals(self) -> Any:
        return self.kinds


SOCKET, CONNECT = ("socket", 41, (1, 2), errno.EPERM, 1), ("connect", 42, (0, 0), errno.EPERM, 1)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SOCKET, "socket(AF_UNIX, SOCK_DGRAM): EPERM"),
        (("socket", 41, (99, 77), errno.EAFNOSUPPORT, 3), "socket(99, 77): EAFNOSUPPORT, 3 times"),
        (("ioctl", 16, (0x5412, 0), errno.ENOTTY, 1), "ioctl(request 0x5412): ENOTTY"),
        (
            ("setsockopt", 54, (1, 26), errno.ENOPROTOOPT, 1),
            "setsockopt(level 0x1, option 0x1a): ENOPROTOOPT",
        ),
        (("ptrace", 101, (0, 0), errno.ENOSYS, 1), "ptrace: ENOSYS"),
        ((None, 999, (0, 0), 4000, 1), "number 999: 4000"),
    ],
)
def test_words(kind: Any, text: str) -> None:
    assert [str(one) for one in refused_calls(Told(kind)) or ()] == [text]  # type: ignore[arg-type]


def test_what_is_not_known_is_none() -> None:
    session = Told()
    session.kinds = None
    assert refused_calls(session) is None  # type: ignore[arg-type]
    assert refused_calls(None) is None


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
@pytest.mark.parametrize(
    ("sandbox", "kinds", "words", "not_words"),
    [
        ({}, [CONNECT], ["connect: EPERM", "'network': True"], ["local_sockets"]),
        ({"network": True}, [SOCKET], ["'local_sockets': True"], ["'network'"]),
        ({"network": True, "local_sockets": True}, [SOCKET], ["socket("], ["In its configuration"]),
        ({}, [("inotify_init1", 294, (0, 0), errno.ENOSYS, 1)], ["polling works"], ["In its configuration"]),
        ({}, [(f"c{i}", i, (0, 0), errno.ENOSYS, 1) for i in range(9)], ["c4", "and 4 more kinds"], ["c5"]),
    ],
)
def test_notes(sandbox: Any, kinds: Any, words: list[str], not_words: list[str]) -> None:
    session = Told(*kinds)
    remarks = RefusalNotes(session, sandbox)  # type: ignore[arg-type]
    first, second = ValueError(), ValueError()
    remarks.add_note(first)
    remarks.add_note(second)
    (note,) = first.__notes__
    assert [word for word in words if word not in note] == []
    assert [word for word in not_words if word in note] == []
    assert not hasattr(second, "__notes__")


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
def test_what_the_extension_says_itself_is_not_said_again() -> None:
    session = Told(CONNECT)
    error = ValueError()
    error.add_note("the extension is confined; ... 'network': True permits the network")
    RefusalNotes(session, {}).add_note(error)  # type: ignore[arg-type]
    assert len(error.__notes__) == 1


def test_children_count(extension: Extension) -> None:
    code = "subprocess.run([sys.executable, '-c', 'import ctypes; ctypes.CDLL(None).unshare(0x10000000)'])"
    extension.sync.run(code)
    assert of_the_test(extension, "unshare") == [Refusal("unshare(flags 0x10000000)", "EINVAL", 1)]


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
def test_the_next_error_has_a_note(extension: Extension) -> None:
    extension.sync.run("LIBC.unshare(0x10000000)")
    with pytest.raises(ValueError, match="of a library") as caught:
        extension.sync.run("raise ValueError('of a library')")
    (note,) = caught.value.__notes__
    assert note.startswith("before this the extension's sandbox refused system calls: ")
    assert "unshare(flags 0x10000000): EINVAL" in note
    with pytest.raises(ValueError, match="another") as caught:
        extension.sync.run("raise ValueError('another')")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
def test_the_note_names_the_key(extension: Extension) -> None:
    code = """
try:
    socket.socket()
except OSError:
    raise ValueError("no network") from None
"""
    with pytest.raises(ValueError, match="no network") as caught:
        extension.sync.run(code)
    (note,) = caught.value.__notes__
    assert "'network': True permits the network" in note


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
@pytest.mark.parametrize("method", ["fork", "exec"])
def test_what_is_done_for_the_notes_is_not_refused(
    refused: Load, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Without namespaces the filter refuses most."""
    monkeypatch.setattr("pyisolate._sandbox.policy.omitted_layers", NAMESPACES)
    extension = refused(start_method=method)
    assert extension.sync.run("result = 1") == 1
    if extension.sandbox_status().refused is None:
        pytest.skip("no listener can be had here, so what is refused is not known")
    assert extension.sandbox_status().refused == ()
    errors = ("PermissionError(errno.EPERM, 'by itself')", "OSError(errno.ENOENT, 'none', '/none')")
    for error in (*errors, "EOFError('EOF when reading a line')", "ValueError()"):
        with pytest.raises((OSError, EOFError, ValueError)) as caught:
            extension.sync.run(f"raise {error}")
        assert len(getattr(caught.value, "__notes__", [])) <= 1
        assert extension.sandbox_status().refused == ()


def test_threads_of_its_own_can_be_bound(extension: Extension) -> None:
    """As OpenMP does; those of other processes are refused."""
    code = """
ready, done = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
thread.start(); ready.wait()
result = []
for who in (thread.native_id, os.getpid(), os.getppid(), 1):
    try:
        os.sched_setaffinity(who, os.sched_getaffinity(0))
        result.append(None)
    except OSError as error:
        result.append(errno.errorcode[error.errno])
done.set(); thread.join()
"""
    assert extension.sync.run(code) == [None, None, "ESRCH", "ESRCH"]
    code = f"""
pid = os.fork()
if pid == 0:
    try:
        os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))
        os.sched_setaffinity({os.getpid()}, os.sched_getaffinity(0))
    except OSError as error:
        os._exit(error.errno)
    os._exit(0)
result = errno.errorcode[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
"""
    assert extension.sync.run(code) == "ESRCH"  # the second one's error


def test_only_what_starts_threads_reaches_others_of_its_own(extension: Extension) -> None:
    """Their ids may have been reused when the kernel handles the call: no limit and no
    priority is set by them. The ids of the caller and its process stay valid while it waits."""
    code = """
import resource
CORE = resource.RLIMIT_CORE
ready, done = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
thread.start(); ready.wait()
same = os.getpriority(os.PRIO_PROCESS, 0)
CALLS = {
    "priority": lambda who: os.setpriority(os.PRIO_PROCESS, who, same),
    "limit": lambda who: resource.prlimit(who, CORE, resource.getrlimit(CORE)),
    "parameters": lambda who: os.sched_setparam(who, os.sched_param(0)),
    "scheduler": lambda who: os.sched_setscheduler(who, os.SCHED_OTHER, os.sched_param(0)),
    "processors": lambda who: os.sched_setaffinity(who, os.sched_getaffinity(0)),
}
def tried(call, who):
    try:
        call(who)
    except OSError as error:
        return errno.errorcode[error.errno]
result = []
def try_all():
    for name, call in CALLS.items():
        own = [tried(call, threading.get_native_id()), tried(call, os.getpid())]
        result.append((name, own, tried(call, thread.native_id)))
trying = threading.Thread(target=try_all)
trying.start(); trying.join()
done.set(); thread.join()
result = sorted(result)
"""
    assert extension.sync.run(code) == [
        ("limit", [None, None], "ESRCH"),
        ("parameters", [None, None], "ESRCH"),
        ("priority", [None, None], "ESRCH"),
        ("processors", [None, None], None),
        ("scheduler", [None, None], None),
    ]


def test_many_are_slowed_down_and_counted(extension: Extension) -> None:
    extension.sync.run(f"for _ in range(1200):\n    {UNKNOWN_CALL}")
    assert of_the_test(extension, "number 563") == [Refusal("number 563", "ENOSYS", 1200)]


def test_kinds_have_a_bound(extension: Extension) -> None:
    extension.sync.run("for i in range(100):\n    LIBC.ioctl(0, ctypes.c_ulong(0x9000 + i), 0)")
    assert len(extension.sandbox_status().refused or ()) == 32


def test_a_killed_caller_disturbs_nobody(extension: Extension) -> None:
    code = f"""
import signal, time
pids = []
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        while True:
            {UNKNOWN_CALL}
    pids.append(pid)
time.sleep(0.2)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
for pid in pids:
    os.waitpid(pid, 0)
"""
    extension.sync.run(code)
    extension.sync.run("LIBC.unshare(0x10000000)")
    assert eventually(lambda: of_the_test(extension, "unshare"))


def test_nobody_else_has_the_listener(extension: Extension) -> None:
    code = (
        "result = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 3]"
    )
    code = code.replace("os.readlink", "(lambda p: os.readlink(p) if os.path.lexists(p) else '')")
    assert not [link for link in extension.sync.run(code) if "seccomp" in link]


def test_one_that_runs_open_is_refused_nothing(refused: Load) -> None:
    extension = refused(sandbox_mode=SandboxMode.DISABLED)
    extension.ensure_process_started()
    assert extension.sandbox_status().refused == ()


LISTENED = """
import sys
from pyisolate import ExtensionBase, ExtensionManager

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "refused", "module_path": sys.argv[1]})
    error = extension.sync.run(sys.argv[2])
    status = extension.sandbox_status()
    print(error, status.refused, status)
    manager.stop_all_extensions()
"""
# Like a container whose runtime listens: calls are not sent to that listener.
LISTEN = """
import ctypes, os, struct, sys
buffer = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
pointer = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
listener = libc.syscall(317 if os.uname().machine == "x86_64" else 277, 1, 8, ctypes.byref(pointer))
os.set_inheritable(listener, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_where_somebody_else_listens_it_is_not_known(refused: Load, tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(LISTENED)
    arguments: list[Any] = ["host.py", str(tmp_path / "refused"), UNKNOWN_CALL]
    done = run_python(arguments, tmp_path, wrapper=[sys.executable, "-c", LISTEN])
    assert done.returncode == 0, done.stderr
    assert "38 None " in done.stdout
    assert "refused: unknown" in done.stdout


FORKED = """
import os, sys
from pyisolate import ExtensionBase, ExtensionManager

def listens():
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return any("seccomp" in os.readlink(link) for link in links if os.path.lexists(link))

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "refused", "module_path": sys.argv[1]})
    extension.sync.run("LIBC.unshare(0x10000000)")
    before = listens()
    pid = os.fork()
    if pid == 0:
        os._exit(listens())
    print(before, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    extension.sync.run("LIBC.unshare(0x10000000)")
    print(extension.sandbox_status().refused)
    manager.stop_all_extensions()
"""


def test_a_forked_host_keeps_no_listener(extension: Extension, tmp_path: Path) -> None:
    """Otherwise calls of the extension after its host's end would wait for the copy."""
    (tmp_path / "host.py").write_text(FORKED)
    done = run_python(["host.py", str(tmp_path / "refused")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True 0")
    assert "count=2" in done.stdout
