"""Many tensors, arrays and buffers in one message: complete, in both directions, and freed afterwards."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib.util
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paths
import pytest
from internals import session_of
from processes import run_host
from waiting import eventually

from pyisolate import Extension, ExtensionBase, ExtensionManager, SandboxMode

EXTENSIONS = paths.EXTENSIONS
sys.path.insert(0, str(EXTENSIONS))
from many import counts, make, wrong  # noqa: E402

sys.path.remove(str(EXTENSIONS))

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
KINDS = [
    *(pytest.param(kind, marks=needs_torch) for kind in ("tensors", "parts", "empty")),
    "arrays",
    "bytes",
]
MANY = 2100  # buffers: more than fit behind a header, and an odd number
MOST = 5000
STRESS_SECONDS = float(os.environ.get("PYISOLATE_STRESS_SECONDS", "2"))  # minutes, for a longer run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Extension]]:
    """An extension that shares and one that copies."""
    root = str(tmp_path_factory.mktemp("venvs"))
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": root})
    yield {
        shares: manager.load_extension(
            {
                "name": "shared" if shares else "copied",
                "module_path": str(EXTENSIONS / "many"),
                "sandbox_mode": SandboxMode.DISABLED,
                "share_torch": shares and TORCH,
                "share_numpy": shares,
            }
        )
        for shares in (True, False)
    }
    manager.stop_all_extensions()


@pytest.fixture(params=[True, False], ids=["shared", "copied"])
def either(request: pytest.FixtureRequest, running: dict[bool, Extension]) -> Iterator[Extension]:
    yield running[request.param]
    running[request.param].sync.release()


@pytest.fixture
def sharing(running: dict[bool, Extension]) -> Iterator[Extension]:
    yield running[True]
    running[True].sync.release()


@pytest.mark.parametrize("kind", KINDS)
def test_as_an_argument_and_a_result(either: Extension, kind: str) -> None:
    values = make(kind, MANY)
    assert either.sync.wrong(kind, values) == 0
    either.sync.hold(values)
    assert wrong(kind, either.sync.held_again()) == 0
    assert wrong(kind, either.sync.make(kind, MANY)) == 0
    named = {f"layer.{i}": value for i, value in enumerate(values)}
    again = either.sync.echo(named)
    assert list(again) == list(named)
    assert wrong(kind, list(again.values())) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_awaited_as_arguments_of_their_own(either: Extension, kind: str) -> None:
    async def use() -> None:
        values = make(kind, MANY)
        assert await either.wrong_among_arguments(kind, *values) == 0
        several = await asyncio.gather(*(either.echo_later(values) for _ in range(3)))
        assert [wrong(kind, values) for values in several] == [0, 0, 0]

    asyncio.run(use())


@pytest.mark.parametrize("kind", KINDS)
def test_in_an_exception_and_in_an_event(either: Extension, kind: str) -> None:
    with pytest.raises(ArithmeticError) as caught:
        either.sync.fail(kind, MANY, 2)  # small: an exception that arrives is asked for its text
    assert wrong(kind, caught.value.args[0], 2) == 0
    made: list[Any] = []
    either.register_event_handler("made", made.append)
    either.sync.tell(kind, MANY)
    assert eventually(lambda: bool(made))
    assert wrong(kind, made[0]) == 0
    either.unregister_event_handler("made", made.append)
    made.clear()  # pytest's exception keeps this frame until the next collection


@pytest.mark.parametrize("kind", KINDS)
def test_thousands(either: Extension, kind: str) -> None:
    values = make(kind, MOST)
    assert wrong(kind, either.sync.echo(values)) == 0
    assert wrong(kind, either.sync.make(kind, MOST)) == 0


@needs_torch
def test_one_tensor_many_times(either: Extension) -> None:
    import torch

    one = torch.arange(10.0)
    back = either.sync.echo([one] * MANY)
    assert len(back) == MANY
    assert all(torch.equal(t, one) for t in back)
    rows = torch.arange(15_000.0).reshape(3000, 5)
    back = either.sync.echo([*rows])
    assert torch.equal(torch.stack(back), rows)


@needs_torch
def test_views_of_one_storage_take_one_descriptor(sharing: Extension) -> None:
    import torch

    rows = torch.zeros(3000, 5)
    before = sharing.sync.counts(), counts()
    sharing.sync.hold([*rows])
    assert sharing.sync.counts()[1] == before[0][1] + 1
    assert counts()[1] == before[1][1] + 1
    rows[2999] = 1
    assert float(sharing.sync.held_again()[2999].sum()) == 5


@pytest.mark.parametrize("kind", [pytest.param("tensors", marks=needs_torch), "arrays"])
def test_what_its_maker_has_dropped_comes_back(sharing: Extension, kind: str) -> None:
    """The extension has no descriptor of the memory, and the host can send it on like any other."""
    mapped = counts()[1]  # memory that other tests of this process keep
    values = make(kind, 100)
    sharing.sync.hold(values)
    del values
    for _ in range(3):
        gc.collect()
        sharing.sync.echo(0)
        back = sharing.sync.held_again()
        assert wrong(kind, back) == 0
        back[7][:] = 7
        assert wrong(kind, sharing.sync.echo(back)) == 0
        del back
    sharing.sync.release()
    assert eventually(lambda: settled(sharing)[1][1] <= mapped)


@pytest.mark.parametrize("kind", [pytest.param("empty", marks=needs_torch), "arrays"])
def test_what_ends_while_the_message_waits_comes_back(sharing: Extension, kind: str) -> None:
    """The extension waits for its host: it decodes the call after the end of the values was reported."""
    mapped = counts()[1]
    echoed: list[Any] = []

    def send_and_drop(_: Any) -> None:
        session = session_of(sharing)
        values = make(kind, 3)
        sent = session.stats()["calls_sent"]
        sender = threading.Thread(target=lambda: echoed.append(sharing.sync.echo(values)))
        sender.start()
        threads.append(sender)
        assert eventually(lambda: session.stats()["calls_sent"] > sent)
        values.clear()

    threads: list[threading.Thread] = []
    sharing.register_event_handler("made", send_and_drop)
    sharing.sync.tell("bytes", 1)
    sharing.unregister_event_handler("made", send_and_drop)
    for thread in threads:
        thread.join()
    assert wrong(kind, echoed[0]) == 0
    assert len(echoed[0]) == 3
    echoed.clear()
    assert eventually(lambda: settled(sharing)[1][1] <= mapped)


SHARES_WITH_WORKERS = """
import sys
import torch
import torch.multiprocessing
from pyisolate import ExtensionBase, ExtensionManager

def fill(tensor, value):
    assert tensor.is_shared()
    tensor.fill_(value)

def main():
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({
        "name": "e", "module_path": sys.argv[1], "sandbox_mode": "disabled", "share_torch": True,
    })
    tensor = torch.zeros(1000)
    extension.sync.hold([tensor])
    assert tensor.is_shared()
    worker = torch.multiprocessing.get_context("spawn").Process(target=fill, args=(tensor, 5.0))
    worker.start()
    worker.join()
    print([worker.exitcode, float(tensor.sum()), float(extension.sync.held_again()[0].sum())])
    manager.stop_all_extensions()

if __name__ == "__main__":
    main()
"""


@needs_torch
def test_torchs_own_workers_get_the_memory_that_was_sent(tmp_path: Path) -> None:
    answer = run_host(SHARES_WITH_WORKERS, tmp_path, [str(EXTENSIONS / "many")], timeout=110)
    assert answer == [0, 5000.0, 5000.0]


@needs_torch
def test_a_storage_that_torch_has_moved_is_another_one(sharing: Extension) -> None:
    import torch
    import torch.multiprocessing

    tensor = torch.zeros(1000)
    sharing.sync.hold([tensor])
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        tensor.share_memory_()  # to a file
    finally:
        torch.multiprocessing.set_sharing_strategy("file_descriptor")
    tensor.fill_(5)
    assert float(sharing.sync.held_again()[0].sum()) == 0
    assert tensor.is_shared()
    fd = tensor.untyped_storage()._share_fd_cpu_()[0]
    assert "piso-segment" not in Path(f"/proc/self/fd/{fd}").readlink().name
    with pytest.warns(UserWarning, match="torch has shared its memory"):
        assert float(sharing.sync.echo(tensor).sum()) == 5000
    held = sharing.sync.held_again()[0]
    held.fill_(2)
    assert held.is_shared()
    assert float(sharing.sync.held_again()[0].sum()) == 2000


# ---- what is left ----


def drop(extension: Extension, stop: threading.Event, count: int, failed: list[BaseException]) -> None:
    """Send and receive values that are not kept, at least once."""
    try:
        for kind in itertools.cycle(["tensors", "empty", "arrays"] if TORCH else ["arrays"]):
            values = make(kind, count)
            assert wrong(kind, extension.sync.echo(values)) == 0
            del values
            assert wrong(kind, extension.sync.make(kind, count)) == 0
            if stop.is_set():
                return
    except BaseException as error:
        failed.append(error)


def awaited(extension: Extension, stop: threading.Event, failed: list[BaseException]) -> None:
    async def use() -> None:
        kind = "empty" if TORCH else "arrays"
        while not stop.is_set():
            made, echoed = await asyncio.gather(extension.make(kind, 5), extension.echo_later(make(kind, 70)))
            assert wrong(kind, made) == wrong(kind, echoed) == 0

    try:
        asyncio.run(use())
    except BaseException as error:
        failed.append(error)


def settled(extension: Extension) -> tuple[Any, Any]:
    """Return the counts of both sides; unused memory is released with later messages."""
    gc.collect()
    extension.sync.release()
    extension.sync.echo(0)
    return extension.sync.counts(), counts()


@pytest.mark.timeout(STRESS_SECONDS + 110)
@pytest.mark.parametrize("count", [5, 64, 1000])
def test_whatever_thread_lets_go_nothing_stays(sharing: Extension, count: int) -> None:
    """Two threads that make synchronous calls, one that awaits calls and one that collects, all at once."""
    stop = threading.Event()
    stop.set()
    drop(sharing, stop, count, [])  # modules and objects that are made once
    before = settled(sharing)
    stop.clear()
    failed: list[BaseException] = []
    gc.freeze()  # so that the collector skips existing objects
    threads = [threading.Thread(target=drop, args=(sharing, stop, count, failed)) for _ in range(2)]
    threads.append(threading.Thread(target=awaited, args=(sharing, stop, failed)))
    for thread in threads:
        thread.start()
    end = time.monotonic() + STRESS_SECONDS
    while time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    gc.unfreeze()
    assert failed == []

    def nothing_stays() -> bool:
        (there, there_mapped), (here, here_mapped) = settled(sharing)
        return (
            there <= before[0][0] + 4  # of a thread or a loop
            and here <= before[1][0] + 4
            and there_mapped <= before[0][1]
            and here_mapped <= before[1][1]
        )

    assert eventually(nothing_stays), (before, settled(sharing))


# ---- limits ----

AT_A_LIMIT = """
import gc, json, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from many import counts, limit_descriptors, make, wrong
from pyisolate import ExtensionBase, ExtensionManager

def attempt(function, *args):
    try:
        return [len(function(*args)), 0, ""]
    except OSError as error:
        return [0, error.errno, str(error)]

def settle(sync):  # what is no longer used goes with later messages
    gc.collect()
    for _ in range(3):
        sync.echo(0)

def main():
    kind = sys.argv[2]
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({
        "name": "e", "module_path": sys.argv[1], "sandbox_mode": "disabled",
        "share_torch": kind != "arrays", "share_numpy": True,
    })
    sync = extension.sync
    answers = {}
    many = make(kind, 500)
    before, generation = sync.counts()[0], extension.generation
    sync.hold(many)  # takes none there
    answers["received"] = sync.counts()[0] - before
    sync.limit_descriptors(20)
    assert wrong(kind, sync.held_again()) == 0
    answers["maker"] = list(sync.hold_more(kind, 100))
    assert sync.echo(1) == 1
    sync.release()
    assert wrong(kind, sync.make(kind, 5)) == 0
    del many
    settle(sync)
    limit_descriptors(10)
    answers["receiver"] = attempt(sync.make, kind, 15)
    assert sync.echo(1) == 1
    assert wrong(kind, sync.make(kind, 5)) == 0
    settle(sync)
    answers["host"] = attempt(make, kind, 50)
    settle(sync)
    assert wrong(kind, sync.echo(make(kind, 5))) == 0
    assert extension.generation == generation
    manager.stop_all_extensions()
    print(json.dumps(answers))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("kind", [pytest.param("empty", marks=needs_torch), "arrays"])
def test_a_limit_of_descriptors_is_an_error_of_one_call(tmp_path: Path, kind: str) -> None:
    answers = run_host(AT_A_LIMIT, tmp_path, [str(EXTENSIONS / "many"), kind])
    assert answers.pop("received") == 0
    for where, (count, number, text) in answers.items():
        assert number == errno.EMFILE, (where, answers)
        assert "descriptors (ulimit -n; at most" in text, where
        assert "Raise the limit, keep fewer" in text, where
        assert count <= 20


FEW_DESCRIPTORS = """
import json, os, resource, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from many import make, wrong
from pyisolate import ExtensionBase, ExtensionManager

def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))  # its extensions can have 200
    kind = sys.argv[2]
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    extension = manager.load_extension({
        "name": "e", "module_path": sys.argv[1], "share_torch": kind != "arrays", "share_numpy": True,
    })
    sync = extension.sync
    many = make(kind, 300)
    for start in range(0, 300, 50):
        sync.hold_too(many[start : start + 50])
    print(json.dumps([len(sync.held_again()), wrong(kind, sync.held_again())]))
    manager.stop_all_extensions()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("kind", [pytest.param("empty", marks=needs_torch), "arrays"])
def test_an_extension_keeps_more_than_it_has_descriptors(tmp_path: Path, kind: str) -> None:
    assert run_host(FEW_DESCRIPTORS, tmp_path, [str(EXTENSIONS / "many"), kind]) == [300, 0]
