"""GPUs as both sides name them: by UUID, because a number depends on CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import suppress
from typing import Any, TypedDict

from .._core import Session, cuda_devices, cuda_failure, set_device_hooks
from .connection import CONTROL, one_line

__all__ = ["Report", "device_of", "device_uuid", "install", "read", "report", "to_send", "why_not"]

_log = logging.getLogger("pyisolate")

_NO_LIMIT = 1 << 63

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
    import uuid  # not at import: only where there is a GPU

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


class Report(TypedDict):
    """What an extension's process says of its GPUs."""

    common: list[bytes] | None
    """UUIDs of those that it has and the host has. None: it was not asked."""
    problem: str
    """What keeps it from using any, or its allocator from sharing; or empty."""


def report(host: list[bytes] | None) -> Report:
    """Of the host's GPUs, by UUID, those that the driver has in this process, too."""
    if host is None:
        return Report(common=None, problem="")
    here = cuda_devices()
    problem = _unshareable_allocator() or "" if here else cuda_failure()
    return Report(common=[one for one in host if one in here], problem=problem)


def to_send(report: Report) -> list[bytes] | None:
    """GPUs whose memory the extension's process shares. None: it does not take any either."""
    if report["common"] and report["problem"]:
        _log.info("share_cuda_ipc: %s; tensors of GPUs are copied from here", report["problem"])
        return []
    return report["common"]


def read(report: object) -> tuple[list[bytes], str]:
    """What is in a report of an extension, which is not trusted: GPUs of both, and the problem."""
    if not isinstance(report, dict):
        return [], ""
    common, problem = report.get("common"), report.get("problem")
    gpus = [one for one in common if isinstance(one, bytes)] if isinstance(common, list) else []
    return gpus, one_line(problem)


def why_not(host: list[bytes], both: list[bytes], problem: str = "") -> str | None:
    """Why this process cannot share memory of GPUs with an extension; None when it can.

    `problem` is the extension's own.
    """
    if not host:
        return f"this process has no driver of CUDA, or sees no GPU ({cuda_failure()})"
    if both:
        return _unshareable_allocator()
    if problem:
        return f"the extension's process cannot use a GPU ({problem})"
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
    import uuid

    return uuid.UUID(str(value).removeprefix("GPU-").removeprefix("MIG-")).bytes


def lend(session: Session, lent: dict[Any, Any], storage: object, address: int, handle: bytes) -> None:
    """Tell the other side, which may keep memory of ours mapped, when the last storage in it is no more.

    `lent` is the session's: what it was sent by address, and how many storages there are by handle. A
    mapping that is closed too early costs time, not more: it is opened again.
    """
    session_reference = weakref.ref(session)

    def ended(_: object) -> None:
        if lent.pop(address, None) is None:
            return  # the session has ended
        lent[handle] -= 1
        if lent[handle]:
            return
        del lent[handle]
        living = session_reference()
        if living is not None:
            with suppress(Exception):  # it has ended
                living.notify(CONTROL, "release_memory", (handle,), _NO_LIMIT)

    lent[address] = weakref.ref(storage, ended)
    lent[handle] = lent.get(handle, 0) + 1


def refuse(session: Session, why: str) -> None:
    """Tell the other side that memory of GPUs, or its events, cannot be opened here, so that it copies."""
    with suppress(Exception):  # it has ended
        session.notify(CONTROL, "copy_from_gpus", (why,), _NO_LIMIT)


def install() -> None:
    """Have the conversion of values use these functions."""
    set_device_hooks(device_uuid, device_of, lend, refuse)
