"""A GPU for machines without one: tensors of the CPU say that they lie on it, and it takes them as they are.

It shows that messages are written and read right; what a real GPU does is tested by tests/gpu.
"""

from __future__ import annotations

from typing import Any

UUID = bytes(range(16))


def pretend(patch: Any, *, memory: bool = True) -> None:
    """Make every tensor of this process one of the pretended GPU. `patch(object, name, value)` sets.

    Without `memory` whatever arrives there raises torch.OutOfMemoryError.
    """
    import torch

    from pyisolate._core import set_device_hooks

    def device(uuid: bytes) -> Any:
        assert uuid == UUID
        if not memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.device("cpu")

    patch(torch.Tensor, "is_cpu", property(lambda self: False))
    patch(torch.Tensor, "is_cuda", property(lambda self: True))
    patch(torch.Tensor, "get_device", lambda self: 0)
    set_device_hooks(lambda index: UUID, device)
