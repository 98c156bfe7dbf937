"""A build without support for GPUs (the option `gpu`) says so when one is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import Extension
from pyisolate._core import HAS_GPU, Registry, _decode, _encode, cuda_devices, cuda_failure
from pyisolate._rpc import gpus

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.skipif(HAS_GPU, reason="this build has support for GPUs: make test-no-gpu")

Load = Callable[..., Extension]
WHY = "this build of pyisolate has no support for GPUs"


def test_there_is_no_gpu_and_it_says_why() -> None:
    assert cuda_devices() == []
    assert WHY in cuda_failure()
    assert WHY in (gpus.sharing_obstacle([], [bytes(16)]) or "")


def test_a_tensor_of_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.zeros(3)
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    with pytest.raises(TypeError, match=rf"{WHY}.*send tensor\.cpu\(\)"):
        _encode(tensor, Registry())


def test_one_that_comes_fails_the_call_only() -> None:
    ext = b"\xc7\x01" + bytes([27]) + b"\x93"
    with pytest.raises(RuntimeError, match=rf"{WHY}.*send tensor\.cpu\(\)"):
        _decode(ext, Registry())


def test_sharing_their_memory_warns_and_shares_the_rest(load: Load) -> None:
    extension: Any = load("tensors", share_torch=True, share_cuda_ipc=True).sync
    tensor = torch.zeros(1000)
    with pytest.warns(RuntimeWarning, match=rf"share_cuda_ipc.*{WHY}"):
        extension.fill(tensor, 1)
    assert tensor.sum() == 1000


def test_devices_go_and_come_by_their_index() -> None:
    registry = Registry()
    device = torch.device("cuda", 1)
    assert _decode(_encode(device, registry), registry) == device
