"""A host whose extension tries to escape, with everything that it could reach around it.

Run as a program of its own, because tests run it as different users and where the kernel permits less,
in a folder that is its to write to. It reads from stdin a list of [layers that are left out, names],
where null stands for no sandbox, or for all attempts, and prints what came of each.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import paths
from attempts import JUDGED_ELSEWHERE

EXTENSIONS = paths.EXTENSIONS
FIRST, SECOND = "mark-of-", "a-secret-" + secrets.token_hex(8)
FILES = [".env", ".git/config", ".hidden/token", "certs/key.pem", "certs/.hidden/x", "settings.json"]
FILES += ["instance/app.db", "uploads/photo", "notes", "module.py", "package/__init__.py"]
IPC_RMID = 0


def make_project(folder: Path) -> None:
    """Make files as they are beside the script of an ordinary application."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("# a secret")


def make_files(folder: Path) -> dict[str, str]:
    """Make files that an attempt may destroy, anew for each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "secret").write_text("secret")
    (folder / "script.py").write_text("")
    return {
        "folder": str(folder),
        "secret": str(folder / "secret"),
        "script": str(folder / "script.py"),
    }


def make_programs(folder: Path) -> dict[str, str]:
    """Make programs that an attempt may run."""
    folder.mkdir()
    shutil.copy("/bin/true", folder / "program")
    with open("/proc/self/maps") as file:
        library = next(line.split()[-1] for line in file if "/libc.so" in line or "/libm.so" in line)
    shutil.copy(library, folder / "library.so")
    return {"program": str(folder / "program"), "library": str(folder / "library.so")}


def make_named(libc: Any, stack: ExitStack) -> dict[str, Any]:
    """Make shared memory, semaphores and queues, and further ones to be removed."""
    memory, spare = (f"/dev/shm/pyisolate-{kind}-{os.getpid()}" for kind in ("test", "spare"))
    for path in (memory, spare):
        with suppress(OSError):  # missing, or not permitted for this user: then it cannot be attacked
            Path(path).write_text("secret")
        stack.callback(Path(path).unlink, missing_ok=True)
    queues = [f"pyisolate-{kind}-{os.getpid()}" for kind in ("test", "spare")]
    for queue in queues:
        libc.mq_open(f"/{queue}".encode(), os.O_RDWR | os.O_CREAT, 0o600, None)
        stack.callback(libc.mq_unlink, f"/{queue}".encode())
    keys = [0x70150000 + (os.getpid() << 4 & 0xFFF0) + n for n in range(4)]
    segments = [libc.shmget(key, 4096, 0o1600) for key in keys[:2]]
    semaphores, messages = libc.semget(keys[2], 1, 0o1600), libc.msgget(keys[3], 0o1600)
    for segment in segments:
        stack.callback(libc.shmctl, segment, IPC_RMID, None)
    stack.callback(libc.semctl, semaphores, 0, IPC_RMID)
    stack.callback(libc.msgctl, messages, IPC_RMID, None)
    return {
        **{"shared_memory": memory, "spare_memory": spare, "queue": queues[0], "spare_queue": queues[1]},
        **{"shm_key": keys[0], "sem_key": keys[2], "msg_key": keys[3]},
        **{"shm_id": segments[0], "spare_shm_id": segments[1]},
        "shm_device": os.stat("/dev/shm").st_dev if os.path.exists("/dev/shm") else 0,
    }


def make_sockets(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Listen on TCP, UDP, in the file system and on abstract names."""
    unix, name = socket.AF_UNIX, f"\0pyisolate-attempts-{os.getpid()}"
    kinds: list[tuple[int, int, Any]] = [
        *((socket.AF_INET, kind, ("127.0.0.1", 0)) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)),
        *((unix, socket.SOCK_STREAM, address) for address in (str(folder / "stream"), name)),
        *((unix, socket.SOCK_DGRAM, address) for address in (str(folder / "datagrams"), name + "-datagrams")),
        (unix, socket.SOCK_SEQPACKET, str(folder / "packets")),
    ]
    made = []
    for family, kind, address in kinds:
        s = stack.enter_context(socket.socket(family, kind))
        s.bind(address)
        if kind == socket.SOCK_DGRAM:
            s.setblocking(False)
        else:
            s.listen(200)
        made.append(s)
    return {
        **{"tcp": made[0].getsockname()[1], "udp": made[1].getsockname()[1]},
        **{"socket": str(folder / "stream"), "datagrams": str(folder / "datagrams")},
        **{
            "packets": str(folder / "packets"),
            "abstract": name[1:],
            "abstract_datagrams": name[1:] + "-datagrams",
        },
    }


@contextmanager
def outside(folder: Path) -> Iterator[dict[str, Any]]:
    """Everything that can be reached."""
    import resource

    make_project(folder / "project")
    sys.path.insert(0, str(folder / "project"))  # as for a script in that folder
    for path in ("venvs/other", "sockets"):
        (folder / path).mkdir(parents=True)
    for path in ("venvs/other/pyvenv.cfg", "venvs/other.lock"):
        (folder / path).write_text("secret")
    libc = ctypes.CDLL(None, use_errno=True)
    os.environ["MY_API_TOKEN"] = FIRST + SECOND
    with ExitStack() as stack:
        inherited = os.open(folder / "project/.env", os.O_RDONLY)
        os.set_inheritable(inherited, True)
        stack.callback(os.close, inherited)
        victim = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        yield {
            **make_programs(folder / "programs"),
            **make_named(libc, stack),
            **make_sockets(folder / "sockets", stack),
            **{"victim": victim.pid, "host": os.getpid(), "home": os.path.expanduser("~")},
            **{"project": str(folder / "project"), "venvs": str(folder / "venvs")},
            **{"descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1]},
            "halves": [FIRST, SECOND],
        }


@contextmanager
def prey(target: dict[str, Any]) -> Iterator[Callable[[], bool]]:
    """A process that an attempt tries to kill, and a function that returns whether it was killed."""
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    target["prey"] = process.pid

    def killed() -> bool:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        return process.returncode is not None

    try:
        yield killed
    finally:
        process.kill()
        process.wait()


def main() -> None:
    from internals import without_layers

    from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

    folder = Path.cwd()
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(folder / "venvs")})
    found, status = [], {}

    def load(name: str, module: str, omitted: list[int] | None) -> Any:
        mode = SandboxMode.DISABLED if omitted is None else SandboxMode.REQUIRED
        config: Any = {"name": name, "module_path": str(EXTENSIONS / module), "sandbox_mode": mode}
        extension = manager.load_extension(config)
        with without_layers(*(omitted or [])):
            extension.ensure_process_started()
        return extension

    with outside(folder) as target:
        sibling = load("sibling", "prisoner", [])
        target["sibling_folder"] = sibling.sync.folder()
        target["sibling"] = int(sibling.sync.run("/bin/sh", "-c", "echo $PPID"))
        for number, (omitted, names) in enumerate(json.load(sys.stdin)):
            extension = load(f"fugitive-{number}", "fugitive", omitted)
            results = {}
            for name in names or sorted(set(extension.sync.attempts()) - JUDGED_ELSEWHERE):
                (folder / "project/package/__init__.py").write_text("# a secret")
                target.update(make_files(folder / "files"))
                with prey(target) if name.startswith("kill_") else nullcontext() as killed:
                    results[name] = extension.sync.attempt(name, target)
                    if killed and results[name] == "done" and not killed():
                        results[name] = "EPERM"
            found.append(results)
            layers = extension.sandbox_status().layers
            status = {name: layer.active for name, layer in layers.items()}
        manager.stop_all_extensions()
    print(json.dumps({"found": found, "layers": status}))


if __name__ == "__main__":
    main()
