"""What the host asks an extension's process to load, and what that reports of it."""

from __future__ import annotations

from typing import TypedDict

from ..config import SandboxConfig
from . import gpus
from .class_references import Reference

__all__ = ["LoadReport", "LoadRequest", "NamesReport"]


class LoadRequest(TypedDict):
    """What the host asks an extension's process to load."""

    module_path: str
    extension_type: Reference
    apis: list[Reference]
    offered: dict[str, int]
    """Names and ids of the host's objects."""
    types: list[Reference]
    share_numpy: bool
    share_torch: str | None
    """The file of the host's torch, if tensors are shared."""
    log_level: int
    """Records below it would not be shown."""
    share_cuda: list[bytes] | None
    """UUIDs of the host's GPUs, if memory of GPUs is shared."""
    cuda_events: bool
    """Whether events of GPUs can be shared, too."""
    shared_memory: int | None
    """The limit of this process's shared memory, in bytes."""
    sandbox: SandboxConfig | None
    """What it is permitted; None: it is not confined."""
    may_leave_group: bool
    """Whether it may leave its process group."""
    refuse_subclasses: bool
    """Whether values of subclasses are refused instead of sent as their base."""
    main: str | None
    """The file of the host's program."""


class NamesReport(TypedDict):
    """What an extension's process tells."""

    type: str
    names: list[str]


class LoadReport(TypedDict):
    """What the extension's process tells of what it has loaded."""

    devices: gpus.Report
    names: NamesReport
