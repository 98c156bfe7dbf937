"""Memory of a tensor with other users: it stays valid and correct when the tensor is sent."""

from __future__ import annotations

import copy
import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

import pyisolate
from pyisolate._core import set_thread_hook
from pyisolate._rpc.tensor_threads import others_wait

np: Any = pytest.importorskip("numpy", reason="NumPy is not installed")
torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

LARGE = 1 << 20  # elements: the allocator returns such memory to the system at once


@pytest.fixture
def extension(tensor_extensions: dict[str, Any]) -> Iterator[Any]:
    yield tensor_extensions["shared"].sync
    tensor_extensions["shared"].sync.release()


def cannot_be_shared(words: str) -> Any:
    return pytest.warns(UserWarning, match=f"cannot be shared.*{words}.*clone")


# ---- who else has the memory ----


def numpy_view(t: Any) -> Any:
    return t.numpy()


def numpy_of_view(t: Any) -> Any:
    return t[10:].numpy()


def numpy_of_bytes(t: Any) -> Any:
    return t.view(torch.uint8).numpy()


def numpy_detached(t: Any) -> Any:
    return t.detach().numpy()


def array_of_array(t: Any) -> Any:
    return np.frombuffer(memoryview(t.numpy()[5:]).cast("B"), "u1")


VIEWS = [numpy_view, numpy_of_view, numpy_of_bytes, numpy_detached, array_of_array, np.asarray]


@pytest.mark.parametrize("size", [10_000, LARGE])
@pytest.mark.parametrize("view", VIEWS)
def test_a_numpy_view_stays_valid_and_right(extension: Any, view: Callable[[Any], Any], size: int) -> None:
    t = torch.ones(size)
    array = view(t)
    before = array.copy()
    with cannot_be_shared("NumPy"):
        extension.fill(t, 7)
    gc.collect()
    torch.ones(size)  # would reuse freed memory
    assert np.array_equal(array, before)
    t.fill_(3)
    assert not np.array_equal(array, before)  # it is still the tensor's own memory
    assert extension.total(t) == 3 * size


def test_a_view_that_is_gone_counts_too(extension: Any) -> None:
    """It is unknown what was made from it."""
    t = torch.ones(LARGE)
    pointer = t.numpy().ctypes.data
    with cannot_be_shared("NumPy"):
        extension.fill(t, 7)
    assert t.data_ptr() == pointer


def test_another_library_that_has_it_by_dlpack(extension: Any) -> None:
    t = torch.ones(LARGE)
    array = np.from_dlpack(t)
    with cannot_be_shared("DLPack"):
        extension.fill(t, 7)
    t.fill_(3)
    assert array[5] == 3
    view = torch.ones(LARGE)[10:]
    array = np.from_dlpack(view)
    with cannot_be_shared("DLPack"):
        extension.fill(view, 7)
    view.fill_(4)
    assert array[5] == 4


def test_another_library_that_has_an_alias_keeps_valid_memory(extension: Any) -> None:
    """It cannot be distinguished from a view. It sees the content at the time of sending."""
    t = torch.ones(LARGE)
    array = np.from_dlpack(t.detach())
    extension.fill(t, 7)
    gc.collect()
    torch.full((LARGE,), 9.0)
    assert t.sum() == 7 * LARGE
    assert set(array[::1000]) == {1}


def of_array(data: Any) -> Any:
    return torch.from_numpy(data)


def of_buffer(data: Any) -> Any:
    return torch.frombuffer(data, dtype=torch.float64)


def of_dlpack(data: Any) -> Any:
    return torch.from_dlpack(data)


@pytest.mark.parametrize("make", [of_array, of_buffer, of_dlpack])
def test_memory_of_others_stays_theirs(extension: Any, make: Callable[[Any], Any]) -> None:
    data = np.arange(1000.0)
    t = make(data)
    with cannot_be_shared("NumPy"):
        assert extension.total(t) == data.sum()
    t[3] = 50
    assert data[3] == 50
    data[4] = 60
    assert t[4] == 60
    assert extension.total(t[2:]) == data[2:].sum()


def test_a_file_stays_mapped(extension: Any, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    np.arange(1000, dtype="f4").tofile(file)
    t = torch.from_file(str(file), shared=True, size=1000, dtype=torch.float32)
    with cannot_be_shared("file"):
        extension.fill(t, 7)
    t[3] = 50
    assert np.fromfile(file, "f4")[3] == 50


def test_memory_that_torch_shares_stays_so(extension: Any) -> None:
    t = torch.zeros(1000).share_memory_()
    where = t.data_ptr()
    with cannot_be_shared("other processes"):
        extension.fill(t, 7)
    assert t.data_ptr() == where
    assert t.sum() == 0


def add_one(t: Any) -> None:
    t += 1


def test_torchs_own_workers_see_what_is_written(extension: Any) -> None:
    """A tensor of `empty` is shared with torch's workers and with extensions."""
    t = pyisolate.empty(1000)
    extension.hold(t)
    context = torch.multiprocessing.get_context("fork")
    worker = context.Process(target=add_one, args=(t,))
    worker.start()
    worker.join(60)
    assert extension.held_total() == 1000
    assert t.sum() == 1000


def test_torch_can_share_what_is_shared_here(extension: Any) -> None:
    """As torch does when it sends a tensor to a spawned process."""
    t = torch.zeros(1000)
    extension.hold(t)
    where = t.data_ptr()
    descriptor, size = t.untyped_storage()._share_fd_cpu_()  # the storage keeps it
    other = torch.empty(0).set_(torch.UntypedStorage._new_shared_fd_cpu(descriptor, size))
    other.fill_(3)
    assert (t.data_ptr(), t.sum(), extension.held_total()) == (where, 3000, 3000)


def test_a_numpy_view_of_what_is_shared_sees_what_is_written(extension: Any) -> None:
    t = pyisolate.empty(1000)
    array = t.numpy()
    extension.fill(t, 7)
    assert array.sum() == 7000
    u = torch.zeros(1000)
    extension.fill(u, 1)  # shared from now on
    array = u.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extension.fill(u, 2)
    assert array.sum() == 2000


def test_what_is_told_works(extension: Any) -> None:
    t = torch.from_numpy(np.zeros(1000))
    with cannot_be_shared("NumPy"):
        extension.fill(t, 7)
    for shared in (t.clone(), pyisolate.empty_like(t).copy_(t)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            extension.fill(shared, 7)
        assert shared.sum() == 7000


def test_one_warning_for_each_storage(extension: Any) -> None:
    t = torch.from_numpy(np.zeros(1000))
    with cannot_be_shared("NumPy"):
        extension.total(t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (t, t[5:], t.view(10, 100)):
            extension.total(view)
    with pytest.warns(UserWarning, match="cannot be shared"):
        extension.total(torch.from_numpy(np.zeros(1000)))


def test_a_warning_that_is_an_error_ends_the_call_only(extension: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="cannot be shared"):
            extension.total(torch.from_numpy(np.zeros(1000)))
    assert extension.total(torch.ones(3)) == 3


def test_what_came_as_a_copy_is_sent_as_one(extension: Any, tensor_extensions: dict[str, Any]) -> None:
    t = tensor_extensions["standard"].sync.make(LARGE)
    array = t.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extension.fill(t, 7)
    assert array.sum() == LARGE


def test_in_copy_mode_nothing_is_told(tensor_extensions: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tensor_extensions["standard"].sync.total(torch.from_numpy(np.ones(10))) == 10


# ---- what moves ----


@pytest.mark.skipif(not hasattr(torch.UntypedStorage, "_swap_data_ptr_"), reason="moves the tensor alone")
def test_views_and_aliases_are_no_obstacle(extension: Any) -> None:
    base = torch.zeros(1000)
    parts = [base[:10], base.detach(), base[::2], base.view(10, 100), base.data, *base.chunk(7)]
    linear = torch.nn.Linear(10, 10)
    with torch.inference_mode():
        inferred = torch.zeros(100)
        tail = inferred[50:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extension.fill(parts[-1], 1)
        extension.fill(base, 2)
        extension.fill(linear.state_dict()["weight"], 3)
        extension.fill(linear.bias.detach(), 4)
        extension.fill(tail, 5)
    assert all(set(part.flatten().tolist()) == {2} for part in parts)
    assert set(linear.weight.flatten().tolist()) == {3}
    assert set(linear.bias.tolist()) == {4}
    assert inferred.sum() == 250


def test_autograd_goes_on_with_what_it_has(extension: Any) -> None:
    linear = torch.nn.Linear(4, 1)
    x = torch.ones(2, 4)
    loss = linear(x).sum()
    other = copy.deepcopy(linear)
    other(x).sum().backward()
    with pytest.warns(UserWarning, match="autograd"):
        extension.echo([x, linear.weight.detach(), linear.weight])
    loss.backward()
    assert torch.equal(linear.weight.grad, other.weight.grad)


# ---- other threads ----


def test_threads_that_compute_while_it_is_sent(extension: Any) -> None:
    """They have the address of the memory from which the tensor moves."""
    current = [torch.ones(LARGE)]
    stop, wrong = threading.Event(), []

    def compute() -> None:
        while not stop.is_set():
            t = current[0]
            total = float((t * 2).sum())
            if total != 2 * LARGE:
                wrong.append(total)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        current[0] = torch.ones(LARGE)
        extension.total(current[0])
        torch.zeros(LARGE)  # reuses freed memory
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_others_write_while_it_is_copied_is_kept(
    extension: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = torch.ones(1000)
    original = torch.UntypedStorage.copy_
    writes = [5, 6]

    def copy_and_write(self: Any, *args: Any) -> Any:
        copied = original(self, *args)
        if writes:
            t.view(10, 100).fill_(writes.pop())
        return copied

    monkeypatch.setattr(torch.UntypedStorage, "copy_", copy_and_write)
    assert extension.total(t) == 5000
    assert t.sum() == 5000


def test_an_array_that_is_made_while_it_is_copied(extension: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread might. The tensor does not move."""
    t = torch.ones(1000)
    original = torch.UntypedStorage.copy_
    arrays = []

    def copy_and_view(self: Any, *args: Any) -> Any:
        arrays.append(t.numpy())
        return original(self, *args)

    monkeypatch.setattr(torch.UntypedStorage, "copy_", copy_and_view)
    with cannot_be_shared("NumPy"):
        extension.fill(t, 7)
    t.fill_(3)
    assert arrays[0].sum() == 3000


def resident() -> int:
    """Return the bytes of private memory."""
    with open("/proc/self/statm") as file:
        _, pages, shared, *_ = file.read().split()
    return (int(pages) - int(shared)) * os.sysconf("SC_PAGESIZE")


def test_old_memory_is_freed_where_no_thread_can_use_it(extension: Any) -> None:
    try:
        set_thread_hook(lambda: True)
        extension.echo(torch.ones(LARGE))
        before = resident()
        held = [torch.ones(16 * LARGE) for _ in range(3)]  # not from the heap, which would keep them
        for t in held:
            extension.echo(t)
        assert resident() < before + 64 * LARGE
    finally:
        set_thread_hook(others_wait)


def test_what_other_threads_may_do() -> None:
    """Only idle workers count as waiting."""
    assert eventually(others_wait)
    go, done = threading.Event(), threading.Event()

    def work(target: Callable[[], Any]) -> threading.Thread:
        thread = threading.Thread(target=target)
        thread.start()
        return thread

    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(go.wait)
    lock = threading.Lock()
    lock.acquire()
    holder = work(lock.acquire)  # of C, as an operation of torch would be
    user = work(lambda: done.wait())
    assert not others_wait()
    lock.release()
    holder.join()
    assert not others_wait()
    go.set()
    waiting.result()
    assert not others_wait()
    done.set()
    user.join()
    assert eventually(others_wait)
    pool.shutdown()


def test_old_memory_goes_with_the_storage(extension: Any) -> None:
    extension.total(torch.ones(LARGE))
    gc.collect()
    before = resident()
    for _ in range(50):
        extension.total(torch.ones(LARGE))
    gc.collect()
    assert resident() < before + 20 * 4 * LARGE


# ---- what a handler received and returns ----


def test_what_others_have_of_a_received_copy_is_not_given_back(tensor_extensions: dict[str, Any]) -> None:
    copying = tensor_extensions["standard"].sync
    t = torch.arange(100_000.0)
    for how in ("dlpack", "numpy", "autograd"):
        assert torch.equal(copying.keep_memory(t, how), t)
        for _ in range(20):
            copying.total(torch.full((100_000,), 9.0))
        assert copying.kept_total() == t.double().sum(), how
