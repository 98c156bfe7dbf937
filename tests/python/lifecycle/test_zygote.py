"""Extensions that are forked from a zygote behave like those that are executed."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import paths
import pytest
import test_asyncio_in_extension
import test_manager
import test_singletons
from internals import forget_classes, session_of
from possible import can_lock
from processes import gone, is_running, keeper_pids

from pyisolate import (
    ConfigurationError,
    Extension,
    ExtensionBase,
    ExtensionDied,
    ExtensionManager,
    PyIsolateError,
    SandboxMode,
)
from pyisolate._env.packages import SearchPath, same_wheel
from pyisolate._host.zygote import ForkPlan, zygotes

Load = Callable[..., Extension]
EXTENSIONS = paths.EXTENSIONS
METHODS = ["fork", "exec"]
HAS_TORCH = importlib.util.find_spec("torch") is not None
ROUNDS = 10 if os.environ.get("PISO_LONG") else 2


@pytest.fixture(params=METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config(name: str = "probe", folder: str = "probe", **more: Any) -> Any:
    path = str(EXTENSIONS / folder)
    return {"name": name, "module_path": path, "sandbox_mode": SandboxMode.DISABLED, **more}


def zygote_pids() -> list[int]:
    return [base.zygote.pid for base in zygotes._bases.values() if base.zygote is not None]


# ---- the same behaviour, forked and executed ----

for _test in (
    test_manager.test_await_starts_and_returns_the_proxy,
    test_manager.test_concurrent_first_calls_start_one_process,
    test_manager.test_several_loops_one_after_the_other,
    test_manager.test_the_loop_runs_while_the_extension_starts,
    *(
        getattr(module, name)
        for module in (test_singletons, test_asyncio_in_extension)
        for name in sorted(vars(module))
        if name.startswith("test_")
    ),
):
    globals()[_test.__name__] = _test


def test_processes_look_the_same(forked: Load) -> None:
    both = []
    for method in METHODS:
        extension = forked(start_method=method, env={"OWN": "1", "TZ": "UTC"})
        both.append(extension.sync.process())
        extension.stop()
    forked, executed = both
    assert forked == executed


def test_threads_and_processes_work_inside(load: Load) -> None:
    extension = load("probe")
    pid, parent = extension.sync.ids()
    assert pid != os.getpid()
    assert parent in (*zygote_pids(), *keeper_pids())
    assert extension.sync.threads() == [0, 1, 4]
    assert asyncio.run(call(extension.in_thread)) == 49
    assert extension.sync.subprocess() == "hello\n"


def test_multiprocessing_works_inside(load: Load) -> None:
    extension = load("probe")
    extension.ensure_process_started()
    if not extension.sandbox_status().layers["namespaces"].active:
        pytest.skip("without namespaces there is no private /dev/shm, which locks of multiprocessing need")
    assert extension.sync.multiprocessing("fork") == [4, 3, 2, 1]
    assert extension.sync.multiprocessing("spawn") == [4, 3, 2, 1]


async def call(method: Callable[[], Any]) -> Any:
    return await method()


def test_only_its_own_descriptors(load: Load) -> None:
    extension = load("probe")
    kinds = sorted(target.partition(":")[0] for target in extension.sync.descriptors().values())
    other = load("probe", name="other").sync.descriptors()
    assert len(other) == len(kinds)
    sockets = [target for target in extension.sync.descriptors().values() if target.startswith("socket")]
    assert not set(sockets) & set(other.values())


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_crash_is_told(load: Load, number: int, name: str) -> None:
    extension = load("probe")
    with pytest.raises(ExtensionDied) as caught:
        extension.sync.crash(int(number))
    assert caught.value.returncode == -number
    assert name in str(caught.value)
    assert "last words\n" in str(caught.value) + "\n"
    words, _, stack = caught.value.stderr.partition("last words\n")
    assert words == ""
    assert stack == "" if number == signal.SIGKILL else "Fatal Python error: Segmentation fault" in stack


def test_an_exit_is_told(load: Load) -> None:
    with pytest.raises(ExtensionDied) as caught:
        load("echo").sync.exit(3)
    assert caught.value.returncode == 3
    assert caught.value.stderr == "so long\n"


def test_its_children_die_with_it(load: Load) -> None:
    extension = load("probe")
    child = extension.sync.child_that_stays()
    extension.stop()
    assert gone(child)


# ---- what is its own after the fork ----


@pytest.mark.parametrize(
    "module",
    [
        "random",
        "numpy",
        pytest.param("torch", marks=pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")),
    ],
)
def test_random_numbers_differ(forked: Load, module: str) -> None:
    first, second = forked("one").sync.numbers(module), forked("two").sync.numbers(module)
    assert len({*first, *second}) == 6


def test_what_is_drawn_differs(forked: Load) -> None:
    """Also after the zygote has loaded the library, and may have used it."""
    what = """[
        __import__("uuid").uuid1().hex,
        __import__("uuid").uuid4().hex,
        __import__("ssl").RAND_bytes(16).hex(),
        __import__("secrets").token_hex(),
        __import__("random").SystemRandom().random(),
        __import__("tempfile").mktemp(),
        bytes(__import__("multiprocessing").current_process().authkey).hex(),
    ]"""
    first, second = (forked(name).sync.evaluate(what) for name in ("one", "two"))
    assert [same for same in first if same in second] == []


def test_it_has_a_title(forked: Load) -> None:
    assert forked("my extension").sync.title() == "my extension"


def test_the_current_directory_of_the_host(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("probe", name="before").ensure_process_started()
    monkeypatch.chdir(tmp_path)
    assert load("probe", name="after").sync.process()["cwd"] == str(tmp_path)


def test_loaded_modules_are_those_of_the_host(forked: Load) -> None:
    extension = forked()
    assert extension.sync.loaded("numpy")  # this process has the module too
    assert extension.sync.file("numpy") == numpy.__file__
    assert extension.sync.blas(300) == 300.0


def test_versions_of_one_package_side_by_side(forked: Load) -> None:
    # A package with a wheel for this Python, so that it is not compiled here.
    version = "1.26.4" if sys.version_info < (3, 13) else "2.1.3" if sys.version_info < (3, 14) else "2.3.3"
    try:
        old = forked("old", dependencies=[f"numpy=={version}"])
        old.ensure_process_started()
    except PyIsolateError as error:
        pytest.skip(f"numpy {version} cannot be installed: {error}")
    new = forked("new", dependencies=["numpy>=2"])
    host = forked("host")
    assert old.sync.version("numpy") == version
    assert new.sync.version("numpy").startswith("2.")
    assert new.sync.version("numpy") != version
    assert host.sync.version("numpy") == numpy.__version__
    assert "old-" in old.sync.file("numpy")
    assert old.sync.blas(10) == new.sync.blas(10) == 10.0


def test_an_environment_is_entered_as_by_its_interpreter(
    forked: Load, make_wheel: Callable[[str], Path]
) -> None:
    make_wheel("1.0")
    both = []
    for method in METHODS:
        extension = forked(dependencies=["rivet"], start_method=method)
        both.append({**extension.sync.process(), "file": extension.sync.file("rivet")})
        extension.stop()
    assert both[0] == both[1]
    assert both[0]["prefix"] != sys.prefix


def test_what_a_zygote_has_rehearsed_is_gone(forked: Load) -> None:
    extension = forked()
    assert extension.sync.evaluate("[name for name in sys.modules if 'prewarm_extension' in name]") == []
    assert extension.sync.evaluate("[sys.getprofile(), gc.isenabled(), os.environ['PYISOLATE_CHILD']]") == [
        None,
        True,
        "1",
    ]


# ---- variables that are read at start ----


def test_variables_that_an_interpreter_reads_have_a_zygote_of_their_own(forked: Load) -> None:
    """The zygote is started with them, for all extensions with the same ones."""
    one, same = (forked(name, env={"PYTHONHASHSEED": "7"}) for name in ("one", "same"))
    other, none = forked("other", env={"PYTHONHASHSEED": "8"}), forked("none")
    executed = forked("executed", env={"PYTHONHASHSEED": "7"}, start_method="exec")
    hashes = [extension.sync.evaluate("hash('a')") for extension in (one, same, executed, other, none)]
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes)) == 3
    assert one.sync.ids()[1] == same.sync.ids()[1]
    assert len({extension.sync.ids()[1] for extension in (one, other, none)}) == 3
    assert one.sync.process() == executed.sync.process()


def test_variables_that_a_library_reads_count_where_it_is_loaded(forked: Load) -> None:
    one, same = (forked(name, env={"OPENBLAS_NUM_THREADS": "1"}) for name in ("one", "same"))
    assert one.sync.loaded("numpy")
    assert one.sync.ids()[1] == same.sync.ids()[1] != forked("none").sync.ids()[1]
    assert one.sync.blas(300) == 300.0
    assert one.sync.evaluate("len(os.listdir('/proc/self/task'))") == 2  # and the one that watches the host


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_the_number_of_threads_of_torch(forked: Load) -> None:
    extensions = [forked(name, env={"OMP_NUM_THREADS": "1"}, share_torch=True) for name in ("one", "same")]
    assert [
        extension.sync.evaluate("sys.modules['torch'].get_num_threads()") for extension in extensions
    ] == [1, 1]
    assert len({extension.sync.ids()[1] for extension in extensions}) == 1


# ---- which cannot be forked ----


def test_another_interpreter_needs_exec(forked: Load) -> None:
    with pytest.raises(PyIsolateError, match=r"PYTHONHOME is set.*'auto'"):
        forked(env={"PYTHONHOME": sys.base_prefix}).ensure_process_started()
    extension = forked("other", env={"PYTHONHOME": sys.base_prefix}, start_method="auto")
    assert extension.sync.ids()[1] in keeper_pids()


def test_start_method_is_checked(venvs: Path) -> None:
    bad: Any = {"venv_root_path": str(venvs), "start_method": "spawn"}
    with pytest.raises(ConfigurationError, match="'start_method' must be 'auto', 'fork' or 'exec'"):
        ExtensionManager(ExtensionBase, bad)
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs), "start_method": "exec"})
    with pytest.raises(ConfigurationError, match="'start_method'"):
        manager.load_extension(config(start_method=None))
    assert manager.load_extension(config()).sync.ids()[1] in keeper_pids()
    manager.stop_all_extensions()


def test_same_wheels_are_told_by_hash(tmp_path: Path) -> None:
    def wheel(folder: str, content: str) -> str:
        info = tmp_path / folder / "nut-1.0.dist-info"
        (tmp_path / folder / "nut").mkdir(parents=True)
        info.mkdir()
        (info / "RECORD").write_text(f"nut/__init__.py,sha256={content},1\nnut/x.pyc,,\nnut-1.0/RECORD,,\n")
        return str(tmp_path / folder)

    one, same, other = wheel("one", "abc"), wheel("same", "abc"), wheel("other", "xyz")
    assert same_wheel("nut", one, same)
    assert not same_wheel("nut", one, other)
    assert not same_wheel("bolt", one, other)
    assert SearchPath([str(tmp_path), other, one]).find("nut") == other
    assert SearchPath([one]).find("nut-1") is None


# ---- many ----


def test_preload_starts_and_returns_them(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    named = manager.load_extension(config("named"))
    extensions = manager.preload(["named", config("one"), config("two")]).wait(30)
    assert [extension.name for extension in extensions] == ["named", "one", "two"]
    assert extensions[0] is named
    assert len({extension.sync.ids()[0] for extension in extensions}) == 3
    assert manager.preload(iter([named])).wait(30) == [named]
    with pytest.raises(ValueError, match="'missing' is not loaded"):
        manager.preload(["missing"])
    with pytest.raises(ValueError, match="'named' is not loaded by this manager"):
        ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}).preload([named])

    async def main() -> list[Extension]:
        return await manager.preload(["one", config("three")])

    assert [extension.name for extension in asyncio.run(main())] == ["one", "three"]
    manager.stop_all_extensions()
    assert manager.extensions == {}


def test_preload_raises_what_a_start_raises(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    both = [config("bad", "broken"), config("good")]
    with pytest.raises(Exception, match=r"."):
        manager.preload(both).wait()
    assert manager.extensions["good"].sync.threads() == [0, 1, 4]

    async def main() -> None:
        await manager.preload(["bad"])

    with pytest.raises(Exception):  # noqa: B017, PT011
        asyncio.run(main())
    manager.stop_all_extensions()


def resources() -> tuple[int, int]:
    """Return (descriptors, children) of this process."""
    gc.collect()
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), len(pids)


def grown(before: tuple[int, int]) -> list[str]:
    """Return what was added. Fewer are no error: another test's zygote may end meanwhile."""
    return [f"{now} instead of {then}" for now, then in zip(resources(), before, strict=True) if now > then]


def shared_memory() -> int:
    """Return the KiB of shared memory that this process has mapped and touched."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssShmem"):
            return int(line.split()[1])
    return 0


def settled(read: Callable[[], Any], expected: Any) -> Any:
    """Return what `read` returns, when it has the expected value or after some seconds."""
    deadline = time.monotonic() + 10
    while (value := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def test_a_hundred_come_and_go(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs), "start_method": "fork"})
    manager.preload([config("first")]).wait()
    manager.stop_all_extensions()
    before, memory = resources(), shared_memory()
    for _ in range(ROUNDS):
        extensions = manager.preload([config(f"e{n}", "echo") for n in range(100)]).wait()
        pids = [extension.sync.pid() for extension in extensions]
        assert len(set(pids)) == 100
        del extensions
        manager.stop_all_extensions()
        assert not any(is_running(pid) for pid in pids)
        assert not settled(lambda: grown(before), [])
    assert shared_memory() <= memory + 64


def test_nothing_is_done_no_arena_is_there(forked: Load) -> None:
    extension = forked()
    extension.ensure_process_started()
    session = session_of(extension)
    assert session.stats()["arena_committed"] == 0
    assert len(extension.sync.process()) > 10
    assert session.stats()["arena_committed"] == 0


def own_memory(pid: int) -> int:
    """Return the KiB that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def test_a_forked_process_shares_most_of_its_memory(forked: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    # Extensions import the classes that other tests have registered, with everything that those tests import.
    forget_classes(monkeypatch)
    extension = forked(env={"PROBE_SETTLE": "1"})
    other = forked("executed", env={"PROBE_SETTLE": "1"}, start_method="exec")
    pid, executed = extension.sync.ids()[0], other.sync.ids()[0]
    assert extension.sync.pages_given_back() > 100  # pages that were read but not changed
    assert other.sync.pages_given_back() == 0
    assert own_memory(pid) * 2 < own_memory(executed)
    assert {**extension.sync.process(), "environ": 0} == {**other.sync.process(), "environ": 0}
    if can_lock():
        assert extension.sync.multiprocessing("fork") == [4, 3, 2, 1]
    assert extension.sync.blas(300) == 300.0


def test_an_idle_extension_has_little_memory_of_its_own(
    forked: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything that a start newly imports or reads shows here."""
    forget_classes(monkeypatch)
    extensions = [forked(f"echo{number}", folder="echo") for number in range(4)]
    for extension in extensions:
        extension.ensure_process_started()
    time.sleep(0.5)  # they settle
    found = [own_memory(extension.sync.pid()) for extension in extensions]
    assert min(found) < 3840


@pytest.mark.parametrize(
    ("of_host", "own"),
    [({"PYISOLATE_SHARE_MEMORY": "0"}, {"PYTHONZYGOTETEST": "0"}), ({}, {"LD_PRELOAD": "libm.so.6"})],
)
def test_memory_that_is_not_moved(
    forked: Load, monkeypatch: pytest.MonkeyPatch, of_host: dict[str, str], own: dict[str, str]
) -> None:
    """It is switched off, or another allocator may be in use."""
    for name, value in of_host.items():
        monkeypatch.setenv(name, value)
    extension = forked(env={**own, "PROBE_SETTLE": "1"})
    assert extension.sync.pages_given_back() == 0
    assert extension.sync.evaluate("'piso-zygote' in open('/proc/self/maps').read()") is False


def test_a_process_with_threads_keeps_its_memory(forked: Load) -> None:
    """Memory is moved only in a process in which no other thread can write meanwhile."""
    extension = forked()
    assert asyncio.run(call(extension.in_thread)) == 49  # its thread remains
    time.sleep(0.5)
    assert asyncio.run(call(extension.in_thread)) == 49


# ---- torch ----


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_inside(forked: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked from a process that has loaded torch."""
    monkeypatch.setattr(ForkPlan, "bases", lambda self: iter([("torch", "numpy")]))
    first, second = forked("one"), forked("two")
    assert first.sync.loaded("torch")
    assert len({*first.sync.numbers("torch"), *second.sync.numbers("torch")}) == 6
    assert len({*first.sync.numbers("numpy"), *second.sync.numbers("numpy")}) == 6
    assert first.sync.torch_threads() == (2, 400.0)
    if can_lock():
        assert first.sync.torch_loader() == list(range(8))
    assert second.sync.blas(300) == 300.0
