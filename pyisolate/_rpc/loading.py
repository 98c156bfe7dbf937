"""The request by which the host has an extension loaded, and the report of the extension's process."""

from __future__ import annotations

from typing import TypedDict

from ..config import SandboxConfig
from . import gpus
from .class_references import Reference
from .registry import TypeReference

__all__ = ["LoadReport", "LoadRequest", "NamesReport"]


class LoadRequest(TypedDict):
    """The host's request to load an extension."""

    module_path: str
    extension_type: Reference
    apis: list[Reference]
    offered: dict[str, int]
    """Names and ids of the host's objects."""
    types: list[TypeReference]
    share_numpy: bool
    share_torch: str | None
    """The file of the host's torch, if tensors are shared."""
    log_level: int
    """The level of the host's logger. Records below it are not sent."""
    share_cuda: list[bytes] | None
    """UUIDs of the host's GPUs, if GPU memory is shared."""
    cuda_events: bool
    """Whether GPU events can be shared, too."""
    shared_memory: int | None
    """The limit of this process's shared memory, in bytes."""
    sandbox: SandboxConfig | None
    """What the sandbox permits, or None if the process is not confined."""
    may_leave_group: bool
    """Whether the process may leave its process group."""
    threads: int | None
    """How many threads run plain methods, or None: the main thread runs them."""
    generation: int
    """How many processes the extension has had, with this one."""
    refuse_subclasses: bool
    """Whether values of subclasses are refused instead of sent as their base type."""
    main: str | None
    """The file of the host's program."""


class NamesReport(TypedDict):
    """The class and the public names of an extension."""

    type: str
    names: list[str]


class LoadReport(TypedDict):
    """The report of an extension's process after it has loaded the extension."""

    devices: gpus.Report
    names: NamesReport
