"""A pretended GPU for machines without one: tensors of the CPU report it as their device.

It shows that messages are written and read correctly. tests/gpu tests real GPUs.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

UUID = bytes(range(16))


def pretend(patch: Any, *, memory: bool = True) -> None:
    """Make every tensor of this process one of the pretended GPU, by `patch(object, name, value)`.

    Without `memory` every copy to it raises torch.OutOfMemoryError.
    """
    import torch

    from pyisolate._core import set_device_hooks
    from pyisolate._rpc.gpus import request_copies, track_export

    def device(uuid: bytes) -> Any:
        assert uuid == UUID
        if not memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.device("cpu")

    patch(torch.Tensor, "is_cpu", property(lambda self: False))
    patch(torch.Tensor, "is_cuda", property(lambda self: True))
    patch(torch.Tensor, "get_device", lambda self: 0)
    set_device_hooks(lambda index: UUID, device, track_export, request_copies)


def importing(real_import: Any) -> Any:
    """Return a from_dlpack that treats memory of a GPU as memory of the CPU, which the mock's memory is."""

    def from_dlpack(capsule: Any) -> Any:
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        kind = ctypes.cast(pointer(capsule, b"dltensor") + 8, ctypes.POINTER(ctypes.c_int32))
        assert kind[0] == 2
        kind[0] = 1
        return real_import(capsule)

    return from_dlpack


def pretend_sharing(patch: Any) -> None:
    """Have this process treat memory of the mock of CUDA's driver (tests/c/mock_cuda.c) as memory of a GPU.

    That memory is the CPU's: only the device type in DLPack differs from a real GPU.
    """
    import torch
    import torch.utils.dlpack as dlpack

    pretend(patch)
    real_empty = torch.empty

    def empty(*args: Any, device: Any = None, **options: Any) -> Any:
        return real_empty(*args, **options)

    patch(torch, "empty", empty)
    patch(dlpack, "from_dlpack", importing(dlpack.from_dlpack))
    patch(torch.cuda, "init", lambda: None)
    patch(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=64))


class Mock(ctypes.Structure):
    """mock_cuda.h"""

    _fields_ = (
        ("allocate", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool)),
        ("free", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("work", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("devices", ctypes.c_int),
        ("no_memory", ctypes.c_bool),
        ("no_opening", ctypes.c_bool),
        *((name, ctypes.c_bool) for name in ("events_pending", "idle", "capturing", "no_ranges", "no_shm")),
        ("tracked", ctypes.c_bool),
        ("fault", ctypes.c_int),
        *((name, ctypes.c_int) for name in ("handles", "opens", "closes", "events", "event_opens")),
        *((name, ctypes.c_int) for name in ("event_destroys", "synchronisations", "waits", "drains")),
        *((name, ctypes.c_int) for name in ("forbidden", "capture_mode", "context_depth")),
        ("last_stream", ctypes.c_void_p),
        ("last_recorded", ctypes.c_uint),
    )


def mock() -> Mock:
    """Return the mock that this process has loaded as the driver."""
    return Mock.in_dll(ctypes.CDLL("libcuda.so.1"), "mock")


def make(count: int, value: float, *, exportable: bool = True) -> Any:
    """Return a float32 tensor in memory of the mock, with its own storage. The memory is never freed."""
    import torch

    address = mock().allocate(4 * count, exportable)
    t = torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32)
    return t.fill_(value)
