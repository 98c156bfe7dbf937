"""GPUs as both sides name them: by UUID, because a number depends on CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import os
import uuid
from typing import Any

from ._core import cuda_devices, set_device_hooks

__all__ = ["common", "device_of", "device_uuid", "install", "why_not"]

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


def common(host: list[bytes] | None) -> list[bytes] | None:
    """Of the host's GPUs, by UUID, those that the driver has in this process, too. None stays None."""
    if host is None:
        return None
    here = set(cuda_devices())
    return [one for one in host if one in here]


def why_not(host: list[bytes], both: list[bytes]) -> str | None:
    """Why no memory of GPUs can be shared with an extension; None when some can."""
    if not host:
        return "this process has no driver of CUDA, or sees no GPU"
    if both:
        return _unshareable_allocator()
    return "the extension's process sees none of the GPUs that this one sees (CUDA_VISIBLE_DEVICES)"


def _unshareable_allocator() -> str | None:
    settings = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or ""
    compact = settings.replace(" ", "").lower()
    for setting in ("expandable_segments:true", "backend:cudamallocasync"):
        if setting in compact:
            return f"memory that torch allocates with {setting} has no handle for other processes"
    return None


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
