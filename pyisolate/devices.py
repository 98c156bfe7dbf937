"""GPUs as both sides name them: by UUID, because a number depends on CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import uuid
from typing import Any

from ._core import set_device_hooks

__all__ = ["device_of", "device_uuid", "install"]

_uuids: list[bytes] = []
"""Of the devices that torch has here, by number. They do not change while a process runs."""


def device_uuid(index: int) -> bytes:
    """The 16 bytes of the UUID of the device with this number.

    Raises RuntimeError when torch cannot tell it (before version 2.5).
    """
    return _all_uuids()[index]


def device_of(wanted: bytes) -> Any:
    """The `torch.device` of this process with this UUID.

    Raises RuntimeError when torch has no CUDA here, or when no device that this process sees has that UUID.
    """
    import torch

    name = f"GPU-{uuid.UUID(bytes=wanted)}"
    if not torch.cuda.is_available():
        why = "has no CUDA" if torch.version.cuda is None else "sees no GPU"
        raise RuntimeError(
            f"the other side sent a tensor that lies on {name}, but torch {why} in this process; "
            "send tensor.cpu(), or give this side a torch with CUDA and access to that GPU"
        )
    uuids = _all_uuids()
    if wanted not in uuids:
        raise RuntimeError(
            f"the other side sent a tensor that lies on {name}, which this process does not see; "
            f"add it to CUDA_VISIBLE_DEVICES, for an extension in its 'env', or send tensor.cpu(). It sees: "
            + (", ".join(f"GPU-{uuid.UUID(bytes=one)}" for one in uuids) or "none")
        )
    return torch.device("cuda", uuids.index(wanted))


def _all_uuids() -> list[bytes]:
    if not _uuids:
        import torch

        found = [_uuid_bytes(torch.cuda.get_device_properties(i)) for i in range(torch.cuda.device_count())]
        _uuids[:] = found
    return _uuids


def _uuid_bytes(properties: Any) -> bytes:
    value = getattr(properties, "uuid", None)
    if value is None:
        raise RuntimeError("torch tells the UUIDs of GPUs from version 2.5 on; here, send tensor.cpu()")
    return uuid.UUID(str(value).removeprefix("GPU-").removeprefix("MIG-")).bytes


def install() -> None:
    """Have the conversion of values use these functions."""
    set_device_hooks(device_uuid, device_of)
