"""What a host can learn about the sandbox of an extension."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import SandboxMode
from .refused_calls import Refusal

__all__ = ["SandboxLayer", "SandboxStatus"]


@dataclass(frozen=True)
class SandboxLayer:
    """One layer of a sandbox."""

    name: str
    active: bool
    detail: str
    """What the layer does, or why it is not active."""


@dataclass(frozen=True)
class SandboxStatus:
    """How an extension's process is confined."""

    mode: SandboxMode
    layers: dict[str, SandboxLayer] = field(default_factory=dict)
    """By name: privileges, files, network, signals, system calls, namespaces, limits. Empty: not confined."""
    refused: tuple[Refusal, ...] | None = ()
    """System calls that the filter has refused. None: unknown, because the kernel is too old or something
    outside, such as a container's monitor, already listens to the system calls of this host."""

    @property
    def confined(self) -> bool:
        """Whether both the files and the system calls are confined."""
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
            parts.append("refused: unknown")
        elif self.refused:
            parts.append(f"refused: {', '.join(f'{refusal}' for refusal in self.refused)}")
        return "; ".join(parts)
