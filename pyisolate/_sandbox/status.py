"""What a host is told of the sandbox of an extension."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import SandboxMode
from .refused_calls import Refusal

__all__ = ["SandboxLayer", "SandboxStatus"]


@dataclass(frozen=True)
class SandboxLayer:
    """One of the parts of a sandbox."""

    name: str
    active: bool
    detail: str
    """What it does, or why it does not."""


@dataclass(frozen=True)
class SandboxStatus:
    """How an extension's process is confined."""

    mode: SandboxMode
    layers: dict[str, SandboxLayer] = field(default_factory=dict)
    """By name: privileges, files, network, signals, system calls, namespaces, limits. None: it runs open."""
    refused: tuple[Refusal, ...] | None = ()
    """System calls that its filter has refused. None: that is not known, because the kernel is too old, or
    something outside, such as a container's monitor, listens to the system calls of this host already."""

    @property
    def confined(self) -> bool:
        """Whether files and system calls are confined."""
        return all(name in self.layers and self.layers[name].active for name in ("files", "system calls"))

    def __str__(self) -> str:
        if not self.layers:
            return "not confined"
        parts = [
            f"{layer.name}: {'on' if layer.active else 'off'}"
            + (f" ({layer.detail})" if layer.detail else "")
            for layer in self.layers.values()
        ]
        if self.refused is None:
            parts.append("what is refused is not known")
        elif self.refused:
            parts.append(f"refused: {', '.join(f'{refusal}' for refusal in self.refused)}")
        return "; ".join(parts)
