"""Tensors of a GPU that are sent through the memory of the CPU, on a pretended GPU."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pretended_gpu
import pytest

from pyisolate import Extension, ProtocolError
from pyisolate._core import HAS_GPU, Registry, _decode, _encode
from pyisolate._rpc import gpus

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.skipif(not HAS_GPU, reason="this build has no support for GPUs")

Load = Callable[..., Extension]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All tensors of this process are on a pretended GPU."""

    def patch(owner: Any, name: str, value: Any) -> None:
        monkeypatch.setattr(owner, name, value, raising=False)

    pretended_gpu.pretend(patch)
    yield
    gpus.install()


def samples() -> Iterator[tuple[str, Any]]:
    matrix = torch.arange(60.0).reshape(6, 10)
    for name in ("float32", "bfloat16", "int64", "bool", "complex64"):
        yield name, torch.ones(3, 4).to(getattr(torch, name))
    yield "transposed", matrix.t()
    yield "block", matrix[1:4, 2:7]
    yield "expanded", torch.ones(3, 1).expand(3, 50)
    yield "column of much", torch.ones(2000, 100)[:, 3]
    yield "scalar", torch.tensor(5.0)
    yield "nothing", torch.empty(2, 0, 3)
    yield "gradient", torch.ones(3, requires_grad=True)
    yield "parameter", torch.nn.Parameter(torch.ones(2, 2))
    yield "conjugate", torch.tensor([1 + 2j, 3 - 1j]).conj()
    yield "negative", torch.tensor([1 + 2j, 3 - 1j]).conj().imag
    yield "large", torch.ones(300, 1000)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("name", "tensor"), list(samples()), ids=[name for name, _ in samples()])
def test_survives(name: str, tensor: Any) -> None:
    data = _encode(tensor, Registry())
    assert pretended_gpu.UUID in data
    back = _decode(data, Registry())
    assert type(back) is type(tensor)
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    if name != "column of much":
        assert back.stride() == tensor.stride()
    assert (back.requires_grad, back.is_conj(), back.is_neg()) == (
        tensor.requires_grad,
        tensor.is_conj(),
        tensor.is_neg(),
    )
    assert torch.equal(back.detach().to(torch.complex128), tensor.detach().to(torch.complex128))


def extension_type(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BIb", 0xC9, len(payload), kind) + payload


def message(wanted: bytes, rest: bytes) -> bytes:
    return extension_type(27, b"\x93\xc4" + bytes([len(wanted)]) + wanted + rest)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "data",
    [
        message(b"short", b"\xc0\xc0"),
        message(pretended_gpu.UUID, b"\xc0\xc0"),
        message(pretended_gpu.UUID, b"\xc0" + extension_type(5, b"")),
        message(pretended_gpu.UUID, b"\xc0" + extension_type(22, b"")),
        message(pretended_gpu.UUID, b"\x07" + extension_type(22, b"")),
        message(pretended_gpu.UUID, b"\x94\x01\x02\x03\x04" + extension_type(22, b"\x97")),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        _decode(data, Registry())


@pytest.mark.usefixtures("gpu")
def test_larger_than_its_bytes() -> None:
    data = _encode(torch.ones(4, dtype=torch.float32), Registry())
    with pytest.raises(ProtocolError):
        _decode(data.replace(b"\x91\x04\x91\x01", b"\x91\x05\x91\x01"), Registry())


def test_without_cuda_the_error_names_the_device() -> None:
    if torch.cuda.is_available():
        pytest.skip("torch has CUDA here")
    data = message(pretended_gpu.UUID, b"\xc0" + _encode(torch.ones(4), Registry()))
    with pytest.raises(RuntimeError, match=r"GPU-00010203-.*no (CUDA|GPU).*send tensor\.cpu\(\)"):
        _decode(data, Registry())


def test_a_device_that_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = uuid.uuid4()
    monkeypatch.setattr(gpus, "_uuids", [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=str(seen)))
    assert gpus.device_uuid(0) == seen.bytes
    assert gpus.device_of(seen.bytes) == torch.device("cuda", 0)
    with pytest.raises(RuntimeError, match=f"GPU-00010203.*CUDA_VISIBLE_DEVICES.*GPU-{seen}"):
        gpus.device_of(pretended_gpu.UUID)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("shared", [False, True])
def test_there_and_back(load: Load, shared: bool) -> None:
    extension: Any = load("tensors", share_torch=shared).sync
    extension.pretend_gpu(True)
    for size in (3, 100_000):
        back = extension.echo(torch.arange(float(size)))
        assert torch.equal(back, torch.arange(float(size)))


@pytest.mark.usefixtures("gpu")
def test_out_of_memory_is_an_error_of_that_call(load: Load) -> None:
    extension: Any = load("tensors").sync
    extension.pretend_gpu(False)
    for size in (3, 100_000):
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            extension.echo(torch.ones(size))
    extension.pretend_gpu(True)
    assert extension.total(torch.ones(10)) == 10


@pytest.mark.usefixtures("gpu")
def test_out_of_memory_for_a_result(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    extension: Any = load("tensors").sync
    extension.pretend_gpu(True)
    pretended_gpu.pretend(monkeypatch.setattr, memory=False)
    with pytest.raises(torch.OutOfMemoryError):
        extension.make(5)
    assert extension.held_total() == 0


# ---- sharing, where there is nothing to share ----


def test_memory_of_a_gpu_is_not_taken_unasked() -> None:
    handle = b"\xc4\x40" + bytes(64)
    data = message(
        pretended_gpu.UUID, b"\x94" + handle + handle + b"\x00\x08" + _encode(torch.ones(2), Registry())
    )
    with pytest.raises(ProtocolError, match="this session does not share"):
        _decode(data, Registry())


@pytest.mark.usefixtures("gpu")
def test_sharing_falls_back_to_copies_with_one_warning(load: Load, recwarn: pytest.WarningsRecorder) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    extension: Any = load("tensors", share_torch=True, share_cuda_ipc=True).sync
    extension.pretend_gpu(True)
    for _ in range(3):
        assert torch.equal(extension.echo(torch.arange(5.0)), torch.arange(5.0))
    warnings = [str(w.message) for w in recwarn if "share_cuda_ipc" in str(w.message)]
    assert len(warnings) == 1
    assert "driver" in warnings[0]


def test_no_sharing_unless_asked_for(load: Load, recwarn: pytest.WarningsRecorder) -> None:
    extension: Any = load("tensors", share_torch=True).sync
    assert extension.echo(1) == 1
    assert not [w for w in recwarn if "share_cuda_ipc" in str(w.message)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("expandable_segments:True", "expandable_segments"),
        ("max_split_size_mb:64, backend:cudaMallocAsync", "cudamallocasync"),
        ("expandable_segments:False", None),
        ("", None),
    ],
)
def test_allocators_without_handles_are_named(
    monkeypatch: pytest.MonkeyPatch, settings: str, named: str | None
) -> None:
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", settings)
    why = gpus.sharing_obstacle([b"a"], [b"a"])
    assert why is None if named is None else named in (why or "")


def test_a_reason_of_an_extension_cannot_forge_a_line() -> None:
    report = {"common": [b"a"], "problem": "no GPU\n\x1b[2Jroot: all is well" + "!" * 1000}
    common, problem = gpus.parse_report(report)
    assert common == [b"a"]
    assert problem.startswith("'no GPU\\n")
    assert problem.isprintable()
    assert len(problem) < 300
