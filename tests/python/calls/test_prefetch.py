"""The peer opens shared memory before it is first sent: which peers, how much, and until when."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import paths
import pytest
from peers import ECHO, peer
from waiting import eventually, shared_memory

import pyisolate
from pyisolate import Extension, ExtensionBase, ExtensionDied, ExtensionManager
from pyisolate._core import Registry, Session

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Load = Callable[..., Extension]
UNSENT = 16
"""The most segments that are prefetched while none is sent."""
NOTHING = 0xFFFFFFFF
"""The id of no object."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extension]:
    """An extension for most tests: each has to import torch first."""
    root = str(tmp_path_factory.mktemp("venvs"))
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": root})
    folder = str(paths.EXTENSIONS / "tensors")
    yield manager.load_extension({"name": "shared", "module_path": folder, "share_torch": True})
    manager.stop_all_extensions()


@pytest.fixture
def extension(running: Extension) -> Any:
    """An extension that has just been sent a shared tensor, and holds none."""
    sharing: Any = running.sync
    sharing.total(pyisolate.empty(1))
    gc.collect()
    assert mapped(sharing) == 0
    return sharing


def mapped(extension: Any) -> int:
    """Return the segments that the extension has mapped, after it has released the retired ones."""
    end = time.monotonic() + 20
    extension.release()
    count = -1
    while (found := extension.mapped()) != count and time.monotonic() < end:
        count = found
        time.sleep(0.01)
    return count


def test_new_shared_memory_is_open_before_it_is_sent(extension: Any) -> None:
    t = pyisolate.empty(100)
    assert extension.mapped() == 1
    t.fill_(2)
    assert extension.total(t) == 200
    assert extension.total(t[:50]) == 100
    like = pyisolate.empty_like(torch.ones(5), requires_grad=True)
    assert extension.mapped() == 2
    assert extension.describe(like) == ("Tensor", "torch.float32", (5,), (1,), True, True, False, False)
    extension.fill(t, 3)
    assert t.sum() == 300


@pytest.mark.alone
def test_what_is_never_sent_is_given_back(extension: Any) -> None:
    before = shared_memory()
    t = pyisolate.empty(16 << 20)  # 64 MiB
    assert extension.mapped() == 1
    del t
    gc.collect()
    assert mapped(extension) == 0
    assert eventually(lambda: shared_memory() < before + (32 << 10))


def test_only_so_much_is_opened_ahead(extension: Any) -> None:
    descriptors = extension.descriptors()
    kept = [pyisolate.empty(10) for _ in range(100)]
    assert extension.mapped() == UNSENT
    for i, t in enumerate(kept):
        t.fill_(i)
        assert extension.total(t) == 10 * i
    assert extension.mapped() == 100
    more = pyisolate.empty(10)  # now that some were sent
    assert extension.mapped() == 101
    del kept, more, t
    gc.collect()
    assert mapped(extension) == 0
    assert extension.descriptors() <= descriptors


def test_thousands_that_are_not_sent_leave_nothing(extension: Any) -> None:
    mine, theirs = len(os.listdir("/proc/self/fd")), extension.descriptors()
    for i in range(2000):
        t = pyisolate.empty(10)
        if i % 50 == 0:
            extension.total(t)
    del t
    gc.collect()
    assert mapped(extension) == 0
    assert len(os.listdir("/proc/self/fd")) <= mine + 4
    assert extension.descriptors() <= theirs + 4


def test_who_has_not_been_sent_shared_memory_is_not_disturbed(load: Load, extension: Any) -> None:
    never: Any = load("tensors", name="never", share_torch=True).sync
    copying: Any = load("tensors", name="copying").sync
    copying.total(torch.ones(3))
    t = pyisolate.empty(10)
    assert (extension.mapped(), never.mapped(), copying.mapped()) == (1, 0, 0)
    assert copying.total(t) == never.total(t) == 0


def test_few_extensions_are_told(load: Load) -> None:
    extensions = [load("tensors", name=f"e{i}", share_torch=True).sync for i in range(5)]
    first = torch.ones(2)
    for each in extensions:
        each.total(first)
    t = pyisolate.empty(10)
    assert [each.mapped() for each in extensions] == [1, 2, 2, 2, 2]
    assert [each.total(t) for each in extensions] == [0] * 5


def test_an_extension_may_end_in_between(load: Load) -> None:
    extension: Any = load("tensors", share_torch=True).sync
    extension.total(torch.ones(2))
    t = pyisolate.empty(10)
    with pytest.raises(ExtensionDied):
        extension.exit()
    after = pyisolate.empty(10)
    assert t.sum() + after.sum() == 0


def test_a_forked_process_tells_nobody(extension: Any) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(pyisolate.empty(10).sum()))
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert extension.mapped() == 0


def test_an_extension_sends_ahead_too(extension: Any) -> None:
    extension.make(3)
    made = extension.make_empty(10)
    assert made.sum() == 0
    extension.fill_held(2)
    assert made.sum() == 20
    del made
    gc.collect()


def test_arrays_are_opened_ahead(load: Load) -> None:
    pytest.importorskip("numpy", reason="NumPy is not installed")
    extension: Any = load("arrays", share_numpy=True).sync
    extension.total(pyisolate.empty_array(1))
    gc.collect()
    extension.echo(0)
    a = pyisolate.empty_array(10)
    assert extension.mapped() == 1
    a[:] = 2
    assert extension.total(a) == 20


def test_nothing_is_called() -> None:
    """A prefetch has no effect, whatever it contains. If it expects a reply it fails."""
    host, child = Session.pair(Registry())
    target: list[object] = []
    host.register(1, target)
    for arguments in ((1,), ([{}], "x"), ()):
        assert child.notify(NOTHING, "append", arguments, 10)
    assert child.notify(1, "append", ("called",), 10)
    with pytest.raises(pyisolate.CallTimeout):
        host.method(1, "echo", sync=True, timeout=0.2)(1)
    assert target == ["called"]
    with peer(ECHO) as session:
        with pytest.raises(LookupError):
            session.method(NOTHING, "echo", sync=True, timeout=10)(1)
        assert session.method(1, "echo", sync=True, timeout=10)(1) == 1
