"""The checked form of an extension's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import SandboxConfig, SandboxMode, StartMethod
from ..singletons import ProxiedSingleton

__all__ = ["RestartPolicy", "Settings"]


@dataclass(frozen=True)
class RestartPolicy:
    """How often, and after how many seconds, a process that has ended is restarted."""

    limit: int
    delay: float


@dataclass(frozen=True)
class Settings:
    """A checked `ExtensionConfig` with its defaults filled in."""

    name: str
    module_path: Path
    isolated: bool
    dependencies: tuple[str, ...]
    extra_index_urls: tuple[str, ...]
    allow_source_builds: bool
    build_network: bool
    environment_timeout: float | None
    environment_size: int | None
    apis: tuple[type[ProxiedSingleton], ...]
    env: dict[str, str]
    call_timeout: float | None
    refuse_subclasses: bool
    value_limit: int | None
    start_timeout: float | None
    watchdog: float | None
    max_open_calls: int
    threads: int | None
    restart: RestartPolicy | None
    echo_output: bool | None
    sandbox_mode: SandboxMode
    share_torch: bool
    share_cuda_ipc: bool
    share_numpy: bool
    start_method: StartMethod
    sandbox: SandboxConfig
