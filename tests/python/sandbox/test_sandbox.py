"""Extensions try to escape and fail; without the layer that stops it, the same attempt succeeds.

The attempts are in extensions/prisoner. Most layers overlap, so several may have to be left out.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paths
import pytest
from internals import without_layers
from possible import can_open_terminals
from processes import run_python
from wrappers import without_calls

from pyisolate import (
    Extension,
    ExtensionBase,
    ExtensionManager,
    SandboxMode,
)

Load = Callable[..., Extension]
HERE = paths.HERE
PRISONER = HERE / "extensions" / "prisoner"

# The layers, in the order of piso_layer.
PRIVILEGES, FILES, NETWORK, SIGNALS, CALLS, NAMESPACES, LIMITS = range(7)
DOMAIN = (FILES, NETWORK, SIGNALS)
"""While one of these is active, Landlock hides processes outside."""
OTHER = (*DOMAIN, CALLS, NAMESPACES, PRIVILEGES)
ALL = (*OTHER, LIMITS)

DENIED = {"EACCES", "EPERM"}
UNKNOWN = {"ENOSYS"}
"""As on an older kernel, for which libraries have fall-backs."""
HIDDEN = DENIED | {"ENOENT", "ENOTDIR"}
"""Where namespaces can be made, forbidden files do not exist."""
OUT_OF_REACH = HIDDEN | {"EROFS", "EXDEV"}
NOT_HERE = DENIED | {"EROFS", "ENOSYS", "ENOTSUP", "ENODEV", "ENXIO", "ENOENT"}
"""The errors with which a container or a chroot refuses something to every process."""

# attempt: (layers that must be left out for it to succeed, errors that mean "refused")
ESCAPES: dict[str, tuple[tuple[int, ...], set[str]]] = {
    "read_a_file": ((FILES, NAMESPACES), HIDDEN),
    "read_the_users": ((FILES, NAMESPACES), HIDDEN),
    "list_a_folder": ((FILES, NAMESPACES), HIDDEN),
    "list_the_root": ((FILES, NAMESPACES), HIDDEN),
    "list_the_home": ((FILES, NAMESPACES), HIDDEN),
    "write_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "overwrite_the_interpreter": ((FILES, NAMESPACES), OUT_OF_REACH),
    "change_own_code": ((FILES, NAMESPACES), OUT_OF_REACH),
    "make_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "make_a_folder": ((FILES, NAMESPACES), OUT_OF_REACH),
    "remove_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "remove_a_folder": ((FILES, NAMESPACES), OUT_OF_REACH),
    "steal_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "plant_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "truncate_a_file": ((FILES, NAMESPACES), OUT_OF_REACH),
    "read_through_a_link": ((FILES, NAMESPACES), HIDDEN),
    "list_through_a_link": ((FILES, NAMESPACES), HIDDEN),
    "read_through_a_hard_link": ((FILES, NAMESPACES), OUT_OF_REACH),
    "read_through_dots": ((FILES, NAMESPACES), HIDDEN),
    "read_from_the_root_of_proc": ((FILES, NAMESPACES), HIDDEN),
    "reopen_a_path": ((FILES, NAMESPACES), HIDDEN),
    "open_beside_a_path": ((FILES, NAMESPACES), HIDDEN),
    "read_in_a_child": ((FILES, NAMESPACES), HIDDEN),
    "run_a_program": ((FILES, NAMESPACES), HIDDEN),
    "change_a_mode": ((NAMESPACES, CALLS), OUT_OF_REACH),
    "change_a_mode_by_number": ((NAMESPACES, CALLS), OUT_OF_REACH),
    "leave_a_program_of_its_owner": ((CALLS,), DENIED),
    "change_an_owner": ((NAMESPACES, CALLS), OUT_OF_REACH),
    "change_times": ((NAMESPACES, CALLS), OUT_OF_REACH),
    "change_attributes": ((NAMESPACES, CALLS), OUT_OF_REACH | {"ENOTSUP"}),
    "make_a_pipe": ((FILES, NAMESPACES, CALLS), OUT_OF_REACH),
    "watch_a_folder": ((CALLS, NAMESPACES), UNKNOWN | {"ENOENT"}),
    "open_by_handle": ((CALLS,), UNKNOWN),
    "list_shared_memory": ((FILES, NAMESPACES), DENIED | {"ENOENT"}),
    "read_environment_of_another": (OTHER, HIDDEN),
    "read_memory_of_another": (OTHER, HIDDEN),
    "read_map_of_another": (OTHER, HIDDEN),
    "read_command_of_another": ((FILES, NAMESPACES), HIDDEN),
    "read_status_of_another": ((FILES, NAMESPACES), HIDDEN),
    "list_descriptors_of_another": (OTHER, HIDDEN),
    "enter_the_root_of_another": (OTHER, HIDDEN),
    "list_processes": ((FILES, NAMESPACES), HIDDEN),
    "sacrifice_another": ((FILES, NAMESPACES), OUT_OF_REACH),
    "connect_by_tcp": ((CALLS, NETWORK, NAMESPACES), DENIED | {"ENETUNREACH", "ECONNREFUSED"}),
    "listen_by_tcp": ((CALLS, NETWORK, NAMESPACES), DENIED | {"EADDRNOTAVAIL"}),
    "send_by_udp": ((CALLS, NAMESPACES), DENIED | {"ENETUNREACH"}),
    "make_a_socket_of_ipv6": ((CALLS,), DENIED),
    "make_a_netlink_socket": ((CALLS,), DENIED),
    "make_a_socket_of_the_hypervisor": ((CALLS,), {"EAFNOSUPPORT"}),
    "make_a_socket_of_the_crypto_interface": ((CALLS,), {"EAFNOSUPPORT"}),
    "make_a_socket_with_a_bit_above": ((CALLS,), DENIED),
    "connect_to_a_daemon": ((CALLS, NAMESPACES), HIDDEN),
    "connect_to_an_abstract_socket": ((CALLS, SIGNALS, NAMESPACES), DENIED | {"ECONNREFUSED"}),
    "send_to_a_daemon": ((CALLS, NAMESPACES), {"ESOCKTNOSUPPORT"}),
    "send_to_a_daemon_from_a_pair": ((CALLS, NAMESPACES), {"ESOCKTNOSUPPORT"}),
    "send_from_a_raw_socket": ((CALLS, NAMESPACES), {"ESOCKTNOSUPPORT"}),
    "send_from_a_raw_pair": ((CALLS, NAMESPACES), {"ESOCKTNOSUPPORT"}),
    "send_a_descriptor_from_a_raw_socket": ((CALLS, NAMESPACES), {"ESOCKTNOSUPPORT"}),
    "listen_on_an_abstract_name": ((CALLS,), DENIED | {"done"}),  # in a network of its own
    "listen_by_an_abstract_name": ((CALLS, NAMESPACES), DENIED | {"done"}),
    "run_a_program_on_packets": ((CALLS,), {"ENOPROTOOPT"}),
    "put_a_socket_into_a_folder": ((FILES, NAMESPACES, CALLS), OUT_OF_REACH),
    "signal_another": ((SIGNALS,), DENIED),
    "signal_the_host": ((SIGNALS,), DENIED),
    "signal_a_group": ((SIGNALS,), DENIED),
    "signal_a_thread": ((SIGNALS,), DENIED),
    "signal_by_descriptor": ((SIGNALS,), DENIED),
    "queue_a_signal": ((SIGNALS,), DENIED),
    "trace_another": (OTHER, UNKNOWN),
    "be_traced": ((CALLS,), UNKNOWN),
    "read_foreign_memory": ((CALLS,), UNKNOWN),
    "write_foreign_memory": ((CALLS,), UNKNOWN),
    "take_a_descriptor": ((CALLS,), UNKNOWN),
    "compare_with_another": ((CALLS,), UNKNOWN),
    "limit_another": ((CALLS, NAMESPACES, PRIVILEGES), {"ESRCH"}),
    "move_another_to_a_processor": ((CALLS, PRIVILEGES), {"ESRCH"}),
    "slow_another_down": ((CALLS, PRIVILEGES), {"ESRCH"}),
    "slow_the_user_down": ((CALLS,), {"ESRCH"}),
    "make_the_user_wait_for_disks": ((CALLS, PRIVILEGES), {"ESRCH"}),
    "make_another_wait_for_disks": ((CALLS, PRIVILEGES), {"ESRCH"}),
    "schedule_another": ((CALLS, PRIVILEGES), {"ESRCH"}),
    "move_pages_of_another": (OTHER, UNKNOWN),
    "attach_shared_memory": ((CALLS, NAMESPACES), DENIED | {"ENOENT"} | UNKNOWN),
    "open_a_message_queue": ((FILES, CALLS, NAMESPACES), DENIED | {"ENOENT"} | UNKNOWN),
    "make_a_user_namespace": ((CALLS,), {"EINVAL"}),
    "clone_into_a_namespace": ((CALLS,), {"EINVAL"}),
    "clone_by_structure": ((CALLS,), {"ENOSYS"}),
    "join_a_namespace": ((CALLS,), UNKNOWN),
    "unmount": ((CALLS,), UNKNOWN),
    "change_the_root": ((CALLS,), UNKNOWN),
    "clone_a_mount": ((CALLS,), UNKNOWN),
    "change_a_mount": ((CALLS,), UNKNOWN),
    "use_io_uring": ((CALLS,), UNKNOWN),
    "enter_io_uring": ((CALLS,), UNKNOWN),
    "register_with_io_uring": ((CALLS,), UNKNOWN),
    "load_bpf": ((CALLS,), UNKNOWN),
    "count_events": ((CALLS,), UNKNOWN),
    "handle_page_faults": ((CALLS,), UNKNOWN),
    "add_a_key": ((CALLS,), UNKNOWN),
    "read_keys": ((CALLS,), UNKNOWN),
    "change_the_personality": ((CALLS,), {"EINVAL"}),
    "type_into_the_terminal": ((CALLS,), {"ENOTTY"}),
    "type_with_a_bit_above": ((CALLS,), {"ENOTTY"}),
    "paste_into_the_terminal": ((CALLS,), {"ENOTTY"}),
    "take_over_the_terminal": ((CALLS,), {"ENOTTY"}),
    "stop_the_terminal": ((CALLS,), {"ENOTTY"}),
    "change_the_terminal": ((CALLS,), {"ENOTTY"}),
    "use_up_asynchronous_requests": ((CALLS,), UNKNOWN),
    "see_what_others_read": ((CALLS,), UNKNOWN),
    "list_mounts": ((CALLS,), UNKNOWN),
    "open_a_terminal": ((FILES, NAMESPACES), HIDDEN),
    "make_others_wait_for_a_file": ((CALLS,), {"EINVAL"}),
    "watch_a_folder_by_signals": ((CALLS,), {"EINVAL"}),
    "use_up_the_instances_of_inotify": ((CALLS, NAMESPACES), UNKNOWN | {"EMFILE"}),
    "give_the_host_a_child": ((CALLS,), {"EINVAL"}),
    "change_flags_of_a_file": ((NAMESPACES, CALLS), OUT_OF_REACH | {"ENOTTY"}),
    "make_a_closing_host_wait": ((CALLS,), DENIED),
    "fill_the_sockets_of_the_user": ((LIMITS,), DENIED),
}
# The kernel refuses these to all users but root, in any sandbox.
ESCAPES_OF_ROOT: dict[str, tuple[tuple[int, ...], set[str]]] = {
    "make_a_mount_namespace": ((CALLS, PRIVILEGES), {"EINVAL"}),
    "mount_a_file_system": ((*DOMAIN, CALLS, PRIVILEGES), UNKNOWN),
    "pivot_the_root": ((CALLS, PRIVILEGES), UNKNOWN),
    "open_a_file_system": ((CALLS, PRIVILEGES), UNKNOWN),
    "move_a_mount": ((CALLS, PRIVILEGES), UNKNOWN),
    "keep_a_capability": ((PRIVILEGES,), DENIED),
    "make_a_device": ((*DOMAIN, CALLS, NAMESPACES, PRIVILEGES), DENIED),
    "change_the_core_pattern": ((FILES, NAMESPACES), OUT_OF_REACH),
    "change_the_kernel": ((FILES, NAMESPACES), OUT_OF_REACH),
    "make_a_raw_socket": ((CALLS, NAMESPACES, PRIVILEGES), DENIED),
    "make_a_packet_socket": ((CALLS, NAMESPACES, PRIVILEGES), {"EAFNOSUPPORT"}),
    "swap_to_a_file": ((CALLS, NAMESPACES, PRIVILEGES), UNKNOWN),
    "restart_the_machine": ((CALLS, NAMESPACES, PRIVILEGES), UNKNOWN),
    "read_the_log_of_the_kernel": ((CALLS, NAMESPACES, PRIVILEGES), UNKNOWN),
    "open_fuse": ((FILES, NAMESPACES), HIDDEN),
    "become_another_user": ((NAMESPACES, PRIVILEGES), {"EPERM", "EINVAL"}),
}
OWN_CODE = {
    "overwrite_the_interpreter": os.path.realpath(os.__file__),
    "change_own_code": PRISONER / "files.py",
}
# The kernel must have these for the attempt to succeed.
OPTIONAL = {"open_fuse": "/dev/fuse", "change_the_kernel": "/sys/kernel/mm"}
# Linux 6.15 has the call that these stand for.
NEW = "call_what_is_new"


def kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


@pytest.fixture(scope="module")
def prison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Extension]]:
    """prison(layers): the extension without these layers; the same one for the same layers."""
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path_factory.mktemp("venvs"))})
    started: dict[frozenset[int], Extension] = {}

    def prison(*omitted: int) -> Extension:
        key = frozenset(omitted)
        if key not in started:
            name = "-".join(["without", *map(str, sorted(key))])
            extension = manager.load_extension({"name": name, "module_path": str(PRISONER)})
            with without_layers(*key):
                extension.ensure_process_started()
            started[key] = extension
        return started[key]

    yield prison
    manager.stop_all_extensions()


@pytest.fixture(scope="module")
def outside() -> Iterator[dict[str, Any]]:
    """Everything that can be reached: listening sockets, a process, shared memory, a message queue."""
    libc = ctypes.CDLL(None, use_errno=True)
    shared_memory = f"/dev/shm/pyisolate-test-{os.getpid()}"
    queue = f"/pyisolate-test-{os.getpid()}"
    with suppress(OSError):  # missing, or not permitted for this user: then it cannot be attacked
        Path(shared_memory).write_text("secret")
    libc.mq_open.restype = ctypes.c_int
    assert libc.mq_open(queue.encode(), os.O_RDWR | os.O_CREAT, 0o600, None) >= 0
    key = 0x70150000 + os.getpid()
    segment = libc.shmget(key, 4096, 0o1600)
    assert segment >= 0
    victim = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    abstract = socket.socket(socket.AF_UNIX)
    with tcp, udp, abstract:
        for s in (tcp, udp):
            s.bind(("127.0.0.1", 0))
        name = f"pyisolate-test-{os.getpid()}"
        abstract.bind("\0" + name)
        for s in (tcp, abstract):
            s.listen(100)
        yield {
            "shared_memory": shared_memory,
            "queue": queue[1:],
            "shm_key": key,
            "victim": victim.pid,
            "host": os.getpid(),
            "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "home": os.path.expanduser("~"),
        }
    victim.kill()
    victim.wait()
    Path(shared_memory).unlink(missing_ok=True)
    libc.mq_unlink(queue.encode())
    libc.shmctl(segment, 0, None)


@pytest.fixture
def target(outside: dict[str, Any], tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The same, with files that an attempt may destroy."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "empty").mkdir()
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    stream, datagrams = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with stream, datagrams:
        stream.bind(str(tmp_path / "stream"))
        stream.listen(10)
        datagrams.bind(str(tmp_path / "datagrams"))
        yield {
            **outside,
            "secret": str(secret),
            "folder": str(tmp_path),
            "program": str(program),
            "socket": str(tmp_path / "stream"),
            "datagrams": str(tmp_path / "datagrams"),
        }


def check(
    prison: Callable[..., Extension], target: dict[str, Any], name: str, omitted: Any, refused: Any
) -> None:
    assert prison().sync.attempt(name, target) in refused
    result = prison(*omitted).sync.attempt(name, target)
    if result in NOT_HERE and prison(*ALL).sync.attempt(name, target) == result:
        pytest.skip(f"this system refuses it to processes that are not confined, too: {result}")
    assert result == "done"


@pytest.mark.parametrize("name", ESCAPES)
def test_no_way_out(prison: Callable[..., Extension], target: dict[str, Any], name: str) -> None:
    if name in OWN_CODE and not os.access(OWN_CODE[name], os.W_OK):
        pytest.skip("this user may not change the file anyway")
    check(prison, target, name, *ESCAPES[name])


@pytest.mark.parametrize("name", ESCAPES_OF_ROOT)
def test_no_way_out_for_root(prison: Callable[..., Extension], target: dict[str, Any], name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root could do this without a sandbox")
    if name in OPTIONAL and not os.path.exists(OPTIONAL[name]):
        pytest.skip(f"this system has no {OPTIONAL[name]}")
    check(prison, target, name, *ESCAPES_OF_ROOT[name])


def test_calls_that_nobody_has_looked_at(prison: Callable[..., Extension], target: dict[str, Any]) -> None:
    if kernel() < (6, 15):
        pytest.skip("this kernel has no system call that the sandbox does not know")
    check(prison, target, NEW, (CALLS,), {"ENOSYS"})


def test_all_attempts_are_tested(prison: Callable[..., Extension]) -> None:
    attempts = prison().sync.attempts()
    assert sorted(attempts) == sorted([*ESCAPES, *ESCAPES_OF_ROOT, NEW])
    assert len(attempts) >= 60


# ---- what it is given ----


def test_no_descriptor_but_the_channel(load: Load, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        descriptors = load("prisoner").sync.descriptors()
    assert not [path for path in descriptors.values() if "secret" in path]
    assert descriptors[0] == "/dev/null"


def test_its_folder_is_private_and_goes_with_it(load: Load) -> None:
    one, two = load("prisoner", name="one"), load("prisoner", name="two")
    folder = one.sync.folder()
    assert os.stat(folder).st_mode & 0o777 == 0o700
    with pytest.raises((PermissionError, FileNotFoundError)):
        two.sync.lock(folder + "/mine")
    if one.sandbox_status().layers["namespaces"].active:  # otherwise modes cannot be changed
        one.sync.lock_folder()
    one.stop()
    assert not os.path.exists(folder)


def test_paths_of_the_configuration(load: Load, tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    sandbox = {"readonly_paths": [str(tmp_path / "in")], "writable_paths": [str(tmp_path / "out")]}
    extension = load("prisoner", sandbox=sandbox)
    assert extension.sync.lock(str(tmp_path / "in" / "file"))
    extension.sync.write(str(tmp_path / "out" / "new"))
    assert (tmp_path / "out" / "new").exists()
    with pytest.raises(OSError, match=r"Permission denied|Read-only"):
        extension.sync.write(str(tmp_path / "in" / "new"))


@pytest.mark.parametrize("name", ["os-release", "debian_version", "lsb-release", "redhat-release"])
def test_the_system_has_a_name(load: Load, name: str) -> None:
    """Libraries read it for their own descriptions, and expect that to succeed."""
    path = Path("/etc", name)
    if not path.exists():
        pytest.skip(f"there is no {path} here")
    assert load("prisoner").sync.run("cat", str(path)) == path.read_text()


def test_network_of_the_configuration(load: Load) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        assert load("prisoner", name="on", sandbox={"network": True}).sync.connect(port)
        with pytest.raises(PermissionError):
            load("prisoner", name="off").sync.connect(port)


def test_daemons_stay_out_of_reach_with_network(load: Load, target: dict[str, Any]) -> None:
    extension = load("prisoner", sandbox={"network": True})
    names = ["connect_to_a_daemon", "connect_to_an_abstract_socket", "send_to_a_daemon"]
    names += ["send_to_a_daemon_from_a_pair", "make_a_packet_socket", "make_a_socket_of_the_crypto_interface"]
    names += ["send_from_a_raw_socket", "send_from_a_raw_pair"]
    refused = HIDDEN | {"EAFNOSUPPORT", "ESOCKTNOSUPPORT"}
    assert {extension.sync.attempt(name, target) for name in names} <= refused


def test_local_sockets_of_the_configuration(load: Load, target: dict[str, Any]) -> None:
    extension = load("prisoner", sandbox={"local_sockets": True})
    assert extension.sync.attempt("connect_to_a_daemon", target) == "done"
    others = ["connect_by_tcp", "make_a_netlink_socket", "connect_to_an_abstract_socket"]
    assert {extension.sync.attempt(name, target) for name in others} <= DENIED | {"ECONNREFUSED"}


def test_devices_of_the_configuration(load: Load, target: dict[str, Any]) -> None:
    if not can_open_terminals():
        pytest.skip("no terminal can be opened here, which is the device of this test")
    extension = load("prisoner", sandbox={"devices": ["/dev/ptmx"]})
    assert extension.sync.attempt("open_a_terminal", target) == "done"


def test_programs_run_and_are_confined(load: Load, target: dict[str, Any]) -> None:
    extension = load("prisoner")
    assert extension.sync.run("/bin/echo", "hello") == "hello\n"
    assert extension.sync.run("/bin/cat", target["secret"]) == ""


def test_locks_of_multiprocessing_work(load: Load) -> None:
    extension = load("prisoner")
    extension.ensure_process_started()
    if not extension.sandbox_status().layers["namespaces"].active:
        pytest.skip("without namespaces there is no private /dev/shm")
    assert extension.sync.use_a_lock_of_multiprocessing()


# ---- the report ----


@pytest.mark.parametrize("key", ["readonly_paths", "writable_paths"])
def test_a_path_that_does_not_exist_is_told(load: Load, tmp_path: Path, key: str, caplog: Any) -> None:
    there = tmp_path / "there"
    there.mkdir()
    load(sandbox={key: [str(there), str(tmp_path / "missing")]}).ensure_process_started()
    (told,) = caplog.messages
    assert f"'echo': {tmp_path}/missing under '{key}' does not exist" in told


def test_status_and_log(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    extension = load("prisoner")
    assert not extension.sandbox_status().confined
    with caplog.at_level(logging.INFO, "pyisolate"):
        extension.ensure_process_started()
        extension.sync.descriptors()
    status = extension.sandbox_status()
    assert status.confined
    assert [record.getMessage() for record in caplog.records] == [
        f"extension 'prisoner' is confined: {status}"
    ]
    assert list(status.layers) == [
        *("privileges", "files", "network", "signals", "system calls", "namespaces", "limits")
    ]


def test_disabled_runs_open(load: Load, target: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "of the host")
    extension = load("prisoner", sandbox_mode=SandboxMode.DISABLED)
    assert extension.sync.attempt("read_a_file", target) == "done"
    assert extension.sync.environ()["API_TOKEN"] == "of the host"
    assert str(extension.sandbox_status()) == "not confined"


# ---- where it has to work ----

HOST = """
import json, sys
from pyisolate import ExtensionBase, ExtensionManager

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({"name": "prisoner", "module_path": sys.argv[1]})
    target = json.loads(sys.argv[2])
    names = ["read_a_file", "write_a_file", "change_a_mode", "connect_by_tcp", "connect_to_a_daemon",
             "signal_another", "read_environment_of_another", "attach_shared_memory", "make_a_user_namespace",
             "use_io_uring", "keep_a_capability", "change_flags_of_a_file", "listen_by_an_abstract_name"]
    found = {name: extension.sync.attempt(name, target) for name in names}
    status = extension.sandbox_status()
    print(json.dumps([found, status.layers["namespaces"].active, status.confined]))
    manager.stop_all_extensions()
"""


def start_host(tmp_path: Path, target: dict[str, Any], *wrapper: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "host.py").write_text(HOST)
    return run_python(["host.py", str(PRISONER), json.dumps(target)], tmp_path, wrapper=wrapper)


def run_host(tmp_path: Path, target: dict[str, Any], *wrapper: str) -> Any:
    done = start_host(tmp_path, target, *wrapper)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_capabilities(tmp_path: Path, target: dict[str, Any]) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv, can give up capabilities")
    wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    found, _, confined = run_host(tmp_path, target, *wrapper)
    assert confined
    assert not [name for name, result in found.items() if result == "done"]


def test_where_namespaces_are_forbidden(tmp_path: Path, target: dict[str, Any]) -> None:
    found, namespaces, confined = run_host(tmp_path, target, *without_calls())
    assert confined
    assert not namespaces
    assert not [name for name, result in found.items() if result == "done"]


def test_an_abstract_name_is_the_hosts(prison: Callable[..., Extension], outside: dict[str, Any]) -> None:
    """An extension must not listen where its host connects; in its own network nothing reaches it."""
    name = f"{outside['abstract']}-taken"
    target = {**outside, "abstract": name}
    for layers, listens, heard in (
        ((), True, False),
        ((NAMESPACES,), False, False),
        ((NAMESPACES, CALLS), True, True),
    ):
        extension = prison(*layers)
        if layers == () and not extension.sandbox_status().layers["namespaces"].active:
            continue
        assert (extension.sync.attempt("listen_by_an_abstract_name", target) == "done") == listens
        with socket.socket(socket.AF_UNIX) as s:
            assert (s.connect_ex("\0" + name) == 0) == heard
