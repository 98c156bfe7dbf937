"""GPUs by UUID. Both sides use the UUID, because the index of a GPU depends on CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import suppress
from typing import Any, TypedDict

from .._core import HAS_GPU, Session, cuda_devices, cuda_failure, set_device_hooks
from .connection import CONTROL, one_line

__all__ = [
    "Report",
    "device_of",
    "device_uuid",
    "install",
    "make_report",
    "parse_report",
    "shared_devices",
    "sharing_obstacle",
]

_log = logging.getLogger("pyisolate")

_NO_LIMIT = 1 << 63

_uuids: list[bytes] = []
"""UUIDs of the devices that torch has here, by index. They do not change while a process runs."""


def device_uuid(index: int) -> bytes:
    """Return the 16 bytes of the UUID of the device with this index.

    Raises RuntimeError if torch does not report UUIDs (before version 2.5).
    """
    return _all_uuids()[index]


def device_of(wanted: bytes) -> Any:
    """Return the `torch.device` of this process with this UUID.

    Raises RuntimeError if torch has no CUDA here, or if this process sees no device with that UUID.
    """
    import uuid  # imported here, because only processes with a GPU need it

    import torch

    name = f"GPU-{uuid.UUID(bytes=wanted)}"
    if not torch.cuda.is_available():
        why = "has no CUDA" if torch.version.cuda is None else "sees no GPU"
        raise RuntimeError(
            f"the peer sent a tensor that is on {name}, but torch {why} in this process; "
            "send tensor.cpu(), or give this side a torch with CUDA and access to that GPU"
        )
    uuids = _all_uuids()
    if wanted not in uuids:
        raise RuntimeError(
            f"the peer sent a tensor that is on {name}, which this process does not see; "
            f"add it to CUDA_VISIBLE_DEVICES, for an extension in its 'env', or send tensor.cpu(). It sees: "
            + (", ".join(f"GPU-{uuid.UUID(bytes=one)}" for one in uuids) or "none")
        )
    return torch.device("cuda", uuids.index(wanted))


class Report(TypedDict):
    """The report of an extension's process on its GPUs."""

    common: list[bytes] | None
    """UUIDs of the GPUs that the process and the host have. None if the host did not ask."""
    problem: str
    """Why the process can use no GPU, or why its allocator cannot share memory; empty if it can."""


def make_report(host: list[bytes] | None) -> Report:
    """Return the report of this process. `host`: UUIDs of the host's GPUs; None if memory is not shared."""
    if host is None:
        return Report(common=None, problem="")
    here = cuda_devices()
    problem = _unshareable_allocator() or "" if here else cuda_failure()
    return Report(common=[one for one in host if one in here], problem=problem)


def shared_devices(report: Report) -> list[bytes] | None:
    """Return the GPUs whose memory this process sends. With None, it does not accept GPU memory either."""
    if report["common"] and report["problem"]:
        _log.info("share_cuda_ipc: %s; GPU tensors that this process sends are copied", report["problem"])
        return []
    return report["common"]


def parse_report(report: object) -> tuple[list[bytes], str]:
    """Return the common GPUs and the problem in a report of an extension, which is not trusted."""
    if not isinstance(report, dict):
        return [], ""
    common, problem = report.get("common"), report.get("problem")
    gpus = [one for one in common if isinstance(one, bytes)] if isinstance(common, list) else []
    return gpus, one_line(problem)


def sharing_obstacle(host: list[bytes], both: list[bytes], problem: str = "") -> str | None:
    """Return why this process cannot share GPU memory with an extension, or None if it can.

    `problem`: the problem that the extension reports.
    """
    if not HAS_GPU:
        return cuda_failure()
    if not host:
        return f"this process has no CUDA driver, or sees no GPU ({cuda_failure()})"
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
        raise RuntimeError("torch reports the UUIDs of GPUs from version 2.5 on; here, send tensor.cpu()")
    import uuid

    return uuid.UUID(str(value).removeprefix("GPU-").removeprefix("MIG-")).bytes


def track_export(
    session: Session, exported: dict[Any, Any], storage: object, address: int, handle: bytes
) -> None:
    """Notify the peer when the last storage in GPU memory that it may have mapped is freed.

    `exported` belongs to the session. It maps the address of a sent storage to a weak reference, and the
    handle of its memory to the number of such storages. If the peer unmaps memory too early, it maps the
    memory again, which costs only time.
    """
    session_reference = weakref.ref(session)

    def ended(_: object) -> None:
        if exported.pop(address, None) is None:
            return  # the session has ended
        exported[handle] -= 1
        if exported[handle]:
            return
        del exported[handle]
        living = session_reference()
        if living is not None:
            with suppress(Exception):  # the session has ended
                living.notify(CONTROL, "release_memory", (handle,), _NO_LIMIT)

    exported[address] = weakref.ref(storage, ended)
    exported[handle] = exported.get(handle, 0) + 1


def request_copies(session: Session, why: str) -> None:
    """Ask the peer to send copies, because its GPU memory or its events cannot be opened here."""
    with suppress(Exception):  # the session has ended
        session.notify(CONTROL, "copy_from_gpus", (why,), _NO_LIMIT)


def install() -> None:
    """Set these functions as the hooks of the value conversion."""
    set_device_hooks(device_uuid, device_of, track_export, request_copies)
