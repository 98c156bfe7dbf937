"""Tensors, copied or shared: what is preserved, which writes are seen, and when memory is released."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from internals import session_of
from waiting import eventually, shared_memory

import pyisolate
from pyisolate import (
    ConfigurationError,
    Extension,
    ExtensionDied,
)

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Load = Callable[..., Extension]
FLOATS8 = [name for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name)]
SWAPS = hasattr(torch.UntypedStorage, "_swap_data_ptr_")
follows = pytest.mark.skipif(
    not SWAPS, reason="this version of torch cannot move a storage with all its views"
)


@pytest.fixture
def extension(tensor_extensions: dict[str, Extension]) -> Iterator[Any]:
    """An extension that shares tensors."""
    yield tensor_extensions["shared"].sync
    tensor_extensions["shared"].sync.release()


@pytest.fixture
def copying(tensor_extensions: dict[str, Extension]) -> Iterator[Any]:
    """An extension that copies tensors."""
    yield tensor_extensions["standard"].sync
    tensor_extensions["standard"].sync.release()


@pytest.fixture(params=["shared", "standard"])
def either(request: pytest.FixtureRequest, tensor_extensions: dict[str, Extension]) -> Any:
    return tensor_extensions[request.param].sync


def segments() -> int:
    """Return the number of shared segments that this process has mapped."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:piso-segment" in line for line in maps)


def settle(extension: Any) -> None:
    """Wait until memory of earlier tests is released on both sides: that happens with later messages."""
    before = -1
    while segments() != before:
        before = segments()
        gc.collect()
        extension.echo(0)
        time.sleep(0.1)


# ---- what survives ----


def inferred(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


def samples() -> Iterator[tuple[str, Any]]:
    for name in ["float64", "float32", "float16", "bfloat16", *FLOATS8, "complex64", "complex128"]:
        yield name, torch.ones(3, 4, dtype=torch.float32).to(getattr(torch, name))
    for name in ["uint8", "int8", "int16", "int32", "int64", "bool"]:
        yield name, torch.arange(12).reshape(3, 4).to(getattr(torch, name))
    matrix = torch.arange(60.0).reshape(6, 10)
    yield "transposed", matrix.t()
    yield "permuted", torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    yield "channels last", torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    yield "every second", torch.arange(100)[::2]
    yield "block", matrix[1:4, 2:7]
    yield "expanded", torch.ones(3, 1).expand(3, 50)
    yield "windows", torch.arange(10.0).unfold(0, 4, 2)
    yield "expanded with gaps", torch.arange(10.0)[::2].expand(3, 5)
    yield "expanded in the middle", torch.arange(24.0).reshape(4, 6)[::2, None, ::3].expand(2, 7, 2)
    yield "overlapping", torch.arange(20.0).as_strided((3, 4, 2), (3, 1, 5))
    yield "overlapping with gaps", torch.arange(40.0).as_strided((3, 4), (4, 6), 2)
    yield "one, repeated", torch.arange(3.0)[1].expand(4, 4)
    yield "flipped", torch.arange(10.0).flip(0)
    yield "of length one", torch.arange(24.0).as_strided((1, 3, 1), (17, 2, 0))
    yield "scalar of a view", torch.arange(3.0)[1]
    yield "behind the end", torch.arange(3.0)[3:]
    yield "conjugate, expanded", torch.tensor([1 + 2j, 0, 3 - 1j])[::2].conj().expand(3, 2)
    yield "negative, with gaps", torch.arange(8.0).to(torch.complex64).conj().imag[::3]
    yield "made under inference_mode", inferred(lambda: torch.ones(3))
    yield (
        "frozen parameter of inference_mode",
        inferred(lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False)),
    )
    yield "parameter of inference_mode", inferred(lambda: torch.nn.Parameter(torch.ones(3)))
    yield "gradient under inference_mode", inferred(lambda: torch.ones(3, requires_grad=True))
    yield "scalar", torch.tensor(5.0)
    yield "nothing", torch.empty(0)
    yield "nothing in 3 dimensions", torch.empty(2, 0, 3)
    yield "gradient", torch.ones(3, requires_grad=True)
    yield "parameter", torch.nn.Parameter(torch.ones(2, 2))
    yield "frozen parameter", torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    yield "conjugate", torch.tensor([1 + 2j, 3 - 1j]).conj()
    yield "negative", torch.tensor([1 + 2j, 3 - 1j]).conj().imag
    yield "large", torch.ones(300, 1000)


@pytest.mark.parametrize(("name", "tensor"), list(samples()), ids=[name for name, _ in samples()])
def test_survives(either: Any, name: str, tensor: Any) -> None:
    kind = "Parameter" if isinstance(tensor, torch.nn.Parameter) else "Tensor"
    bits = (tensor.requires_grad, tensor.is_leaf, tensor.is_conj(), tensor.is_neg())
    expected = (kind, str(tensor.dtype), tuple(tensor.shape), tensor.stride(), *bits)
    values = tensor.detach().clone()
    assert either.describe(tensor) == expected
    back = either.echo(tensor)
    assert type(back) is type(tensor)
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert back.stride() == tensor.stride()
    assert (back.requires_grad, back.is_leaf, back.is_conj(), back.is_neg()) == bits
    again = either.echo(tensor)  # shared memory is sent in another way then
    assert (again.requires_grad, again.is_leaf, again.is_conj(), again.is_neg()) == bits
    for t in (back, again, tensor):  # sharing has not changed it
        assert torch.equal(t.detach().to(torch.complex128), values.to(torch.complex128))
    assert (tensor.requires_grad, tensor.is_leaf, tensor.is_conj(), tensor.is_neg()) == bits


def test_a_column_of_a_large_matrix_does_not_drag_it_along(copying: Any) -> None:
    column = torch.ones(2000, 1000)[:, 3]
    back = copying.echo(column)
    assert torch.equal(back, column)
    assert back.untyped_storage().nbytes() < 20_000


def test_what_is_far_apart_and_repeated(either: Any) -> None:
    t = torch.arange(100_000.0)[::30_000].expand(5, 4)
    assert torch.equal(either.echo(t), t)


def test_what_lies_between_the_elements_is_not_sent(copying: Any) -> None:
    secret = torch.full((100,), 7.0)
    back = copying.echo(secret[::2])
    assert back.stride() == (2,)
    everything = back.as_strided((99,), (1,))
    assert everything[1::2].abs().sum() == 0


def test_inside_of_other_values(either: Any) -> None:
    value = {"a": [torch.ones(2), (torch.zeros(3), None)], 5: torch.arange(3)}
    back = either.echo(value)
    assert torch.equal(back["a"][0], torch.ones(2))
    assert torch.equal(back["a"][1][0], torch.zeros(3))
    assert back["a"][1][1] is None
    assert torch.equal(back[5], torch.arange(3))


def test_results_under_inference_mode(either: Any) -> None:
    with torch.inference_mode():
        result = either.inference(torch.ones(3))
        again = either.echo(torch.ones(2))
    assert result.sum() == 6
    ordinary = either.echo(torch.ones(2))
    assert again.sum() == ordinary.sum()
    ordinary.requires_grad_(True).sum().backward()


@pytest.mark.parametrize("kind", ["shared", "standard"])
def test_what_arrives_is_no_write_to_what_arrived(tensor_extensions: dict[str, Extension], kind: str) -> None:
    """autograd counts writes to a tensor that it keeps for a backward pass."""
    extension: Any = tensor_extensions[kind].sync
    weight = torch.ones(10, requires_grad=True)
    loss = (extension.make(10) * weight).sum()
    extension.make(10)
    loss.backward()
    assert torch.equal(weight.grad, torch.ones(10))


# ---- copies ----


def test_a_copy_is_a_copy(copying: Any) -> None:
    t = torch.ones(1000)
    copying.hold(t)
    t.fill_(2)
    assert copying.held_total() == 1000
    copying.fill_held(5)
    assert t.sum() == 2000
    assert not t.is_shared()


def test_a_result_that_nobody_keeps_goes_back_without_a_copy(
    copying: Any, tensor_extensions: dict[str, Extension]
) -> None:
    """The buffer that the host has sent comes back; what the extension has kept is unchanged."""
    session = session_of(tensor_extensions["standard"])
    t = torch.arange(100_000.0)
    copying.echo(t)
    gc.collect()
    before = session.stats()["arena_live"]
    back = copying.echo(t)
    assert torch.equal(back, t)
    assert session.stats()["arena_live"] > before
    copying.hold(t)
    kept = copying.held_again(0)
    kept.fill_(0)
    assert torch.equal(copying.held_again(0), t)
    half = copying.half(t)
    assert torch.equal(half, t[:50_000])


def test_a_received_copy_can_be_used_like_any_tensor(copying: Any) -> None:
    t = copying.make(100, 100)
    t += 1
    t.resize_(3, 3)
    assert t.sum() == 18
    t = copying.make(10).requires_grad_(True)
    (t * t).sum().backward()
    assert torch.equal(t.grad, 2 * torch.ones(10))


# ---- shared memory ----


def test_both_sides_see_each_others_writes(extension: Any) -> None:
    t = torch.zeros(1000)
    extension.hold(t)
    t.fill_(3)
    assert extension.held_total() == 3000
    extension.fill_held(4)
    assert t.sum() == 4000
    assert t.is_shared()


def test_what_the_extension_made_is_shared_too(extension: Any) -> None:
    t = extension.make_and_hold(10)
    t.fill_(7)
    assert extension.held_total() == 70
    extension.fill_held(1)
    assert t.sum() == 10


@follows
def test_views_here_follow_the_storage(extension: Any) -> None:
    base = torch.zeros(4, 4)
    row, column = base[1], base[:, 2]
    extension.fill(row, 5)
    assert base.sum() == 20
    assert column.sum() == 5
    extension.fill(base, 1)
    assert row.sum() == 4


@pytest.mark.skipif(SWAPS, reason="this version of torch moves a storage with all its views")
def test_a_view_moves_alone_with_its_own_memory(extension: Any) -> None:
    base = torch.zeros(1000, 100)
    block, same = base[500:510, 20:30], base[500:510, 20:30]
    extension.fill(block, 5)
    assert (block.sum(), base.sum(), same.sum()) == (500, 0, 0)
    assert block.stride() == (100, 1)
    assert block.untyped_storage().nbytes() == 4 * 910
    extension.fill(block.t()[3:], 1)  # later views are in the same memory
    assert block.sum() == 10 * 7 + 5 * 10 * 3
    extension.fill(base, 2)
    assert base.sum() == 200_000
    assert block.sum() == 10 * 7 + 5 * 10 * 3


@follows
def test_views_are_sent_as_views_of_one_storage(extension: Any) -> None:
    base = torch.zeros(10)
    assert extension.same_storage(base[:5], base[5:])


def test_views_of_one_storage_stay_views_of_one_storage(extension: Any) -> None:
    base = torch.zeros(10)
    assert extension.same_storage(base, base)
    assert extension.same_storage(base[:5], base[5:])
    extension.hold(base)
    a, b = extension.held_again(0), extension.echo(base[2:4])
    assert a.untyped_storage()._cdata == b.untyped_storage()._cdata == base.untyped_storage()._cdata
    mine = extension.make_and_hold(6)
    again = extension.held_again(1)
    assert mine.untyped_storage()._cdata == again.untyped_storage()._cdata


def test_a_tensor_is_sent_on_without_a_copy(load: Load) -> None:
    first: Any = load("tensors", share_torch=True).sync
    second: Any = load("tensors", name="second", share_torch=True).sync
    t = first.make_and_hold(10)
    second.hold(t)
    second.fill_held(6)
    assert first.held_total() == 60
    assert t.sum() == 60
    del t
    gc.collect()
    first.release()
    assert second.held_total() == 60  # the memory exists as long as it is referenced
    back = second.held_again(0)
    assert back.sum() == 60


def test_the_hosts_tensor_stays_an_ordinary_one(extension: Any) -> None:
    t = torch.ones(8, requires_grad=True)
    loss = (t * t).sum()
    extension.echo(t)
    loss.backward()
    assert torch.equal(t.grad, 2 * torch.ones(8))
    file = io.BytesIO()
    torch.save(t, file)
    file.seek(0)
    assert torch.equal(torch.load(file), t)
    assert extension.saved(t) == 8
    plain = torch.ones(4)
    extension.echo(plain)
    plain.add_(1)
    plain.resize_(2)
    assert extension.total(plain) == 4


def test_a_shared_tensor_cannot_be_enlarged(extension: Any) -> None:
    """As after `share_memory_`: it would have to leave memory that others see."""
    t = torch.ones(4)
    extension.echo(t)
    with pytest.raises(RuntimeError, match="resizable"):
        t.resize_(1000)
    t.resize_(2)
    extension.fill(t, 3)
    assert t.sum() == 6


def test_a_tensor_with_other_memory_is_shared_anew(extension: Any) -> None:
    t = torch.ones(4)
    extension.echo(t)
    t.data = torch.ones(1000)
    extension.fill(t, 2)
    assert t.sum() == 2000


def test_gradients_are_computed_on_the_other_side(extension: Any) -> None:
    t = torch.ones(5, requires_grad=True)
    assert torch.equal(extension.backward(t), 3 * torch.ones(5))
    assert t.grad is None


def test_empty_needs_no_first_copy(extension: Any) -> None:
    t = pyisolate.empty(3, 4)
    assert t.shape == (3, 4)
    assert t.dtype == torch.get_default_dtype()
    assert t.sum() == 0
    where = t.data_ptr()
    extension.fill(t, 2)
    assert t.data_ptr() == where
    assert t.sum() == 24
    like = pyisolate.empty_like(torch.ones(2, 3, dtype=torch.int16).t())
    assert like.stride() == (1, 3)
    assert like.dtype == torch.int16
    extension.fill(like, 1)
    assert like.sum() == 6
    assert pyisolate.empty((2, 2), dtype=torch.bool).dtype == torch.bool
    assert pyisolate.empty(0, 5).shape == (0, 5)
    assert pyisolate.empty(2, requires_grad=True).requires_grad
    with pytest.raises(MemoryError):
        pyisolate.empty(1 << 50)


def test_the_extension_uses_the_hosts_torch(extension: Any) -> None:
    assert extension.torch_file() == torch.__file__


def test_calls_in_flight(tensor_extensions: dict[str, Extension]) -> None:
    extension: Any = tensor_extensions["shared"]

    async def main() -> None:
        tensors = [torch.full((3,), float(i)) for i in range(500)]
        results = await asyncio.gather(*(extension.echo(t) for t in tensors))
        assert all(torch.equal(a, b) for a, b in zip(tensors, results, strict=True))

    asyncio.run(main())


# ---- lifetimes ----


@pytest.mark.alone
def test_memory_goes_back_when_neither_side_holds_it(extension: Any) -> None:
    extension.echo(torch.ones(1))
    settle(extension)
    before, count = shared_memory(), segments()
    t = torch.ones(64 << 18)  # 64 MiB
    extension.echo(t)
    assert segments() == count + 1
    del t
    gc.collect()
    assert eventually(lambda: segments() == count)
    assert eventually(lambda: shared_memory() < before + (32 << 10))


def test_a_storage_lives_while_the_extension_holds_it(extension: Any) -> None:
    t = torch.ones(100)
    extension.hold(t)
    del t
    gc.collect()
    assert extension.held_total() == 100
    back = extension.held_again(0)
    assert back.sum() == 100
    back.fill_(2)
    assert extension.held_total() == 200


def test_a_storage_lives_while_the_host_holds_it(extension: Any) -> None:
    t = extension.make_and_hold(100)
    extension.release()
    assert t.sum() == 100
    assert extension.total(t) == 100


def test_thousands_of_tensors_leave_nothing(extension: Any) -> None:
    def send(count: int) -> None:
        for i in range(count):
            extension.total(torch.full((10,), float(i)))
            extension.make(3)

    send(200)
    mine, theirs, mapped = len(os.listdir("/proc/self/fd")), extension.descriptors(), segments()
    send(2500)
    gc.collect()
    assert eventually(lambda: segments() <= mapped + 1)
    assert len(os.listdir("/proc/self/fd")) <= mine + 4
    assert extension.descriptors() <= theirs + 4


def test_a_child_that_dies_gives_back_what_it_held(load: Load) -> None:
    before = segments()
    extension: Any = load("tensors", share_torch=True).sync
    t = extension.make_and_hold(1000)
    kept = torch.ones(10)
    extension.hold(kept)
    with pytest.raises(ExtensionDied):
        extension.exit()
    assert t.sum() == 1000
    assert kept.sum() == 10
    del t, kept
    gc.collect()
    assert eventually(lambda: segments() == before)


def test_a_failed_send_keeps_nothing(extension: Any) -> None:
    count = segments()
    t = torch.ones(10)
    with pytest.raises(TypeError):
        extension.echo(t, object())
    assert t.sum() == 10
    del t
    gc.collect()
    assert segments() == count


# ---- configuration ----


def test_another_torch_in_the_extension_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def elsewhere(name: str, package: str | None = None) -> Any:
        found = real(name, package)
        if name == "torch" and found is not None:
            found = copy.copy(found)
            found.origin = __file__
        return found

    monkeypatch.setattr(importlib.util, "find_spec", elsewhere)
    with pytest.raises(ImportError, match="share_torch"):
        load("tensors", share_torch=True).sync.echo(1)


def test_torch_is_left_out_of_the_environment(load: Load, make_wheel: Callable[[str], Any]) -> None:
    """No index offers torch: an installation would fail."""
    make_wheel("1.0")
    extension: Any = load("tensors", share_torch=True, dependencies=["rivet", "torch>=2"]).sync
    assert extension.torch_file() == torch.__file__


def test_gpu_sharing_needs_sharing(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="share_cuda_ipc"):
        load("tensors", share_cuda_ipc=True)
