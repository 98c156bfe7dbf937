"""The two configurations, which are plain dictionaries.

How they are checked is in validation.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .singletons import ProxiedSingleton

__all__ = [
    "CUDAWheelConfig",
    "ExtensionConfig",
    "ExtensionManagerConfig",
    "SandboxConfig",
    "SandboxLimits",
    "SandboxMode",
]


class SandboxMode(Enum):
    """How much an extension's process is to be confined."""

    REQUIRED = "required"
    """Confined, or not started: SandboxError says what is missing."""
    DISABLED = "disabled"
    """Not confined: it runs with the rights of the host's user."""


class ExtensionManagerConfig(TypedDict):
    """Configuration of an `ExtensionManager`."""

    venv_root_path: str
    """The folder for the environments of extensions; it is created when the first one is needed."""


class SandboxLimits(TypedDict, total=False):
    """What a confined extension may use. What is left out is not limited."""

    memory: int
    """Bytes of private memory of each of its processes. Above: MemoryError."""
    cpu_seconds: int
    """Processor time of each of its processes, from the start. Above: ExtensionDied, which says so."""
    processes: int
    """Processes and threads, with the interpreter's own. Above: BlockingIOError, or RuntimeError of a thread.
    Cannot be limited when the host runs as root."""
    open_files: int
    """Descriptors of each process. Above: OSError EMFILE."""
    file_size: int
    """Bytes of one file. Above: OSError EFBIG."""
    temp_size: int
    """Bytes in its temporary folder. Above: OSError ENOSPC. Only where the system permits namespaces."""


class SandboxConfig(TypedDict, total=False):
    """What a confined extension may reach besides its own files; see docs/security-model.md."""

    writable_paths: list[str]
    """Files and folders that exist; with all that is below."""
    readonly_paths: list[str] | dict[str, str]
    """Paths, or path in the host -> path in the sandbox, which has to be the same."""
    network: bool
    """Default False: none at all."""
    local_sockets: bool
    """Default False. True: Unix sockets can be connected, which multiprocessing's managers and PyTorch's data
    loaders with workers need; services of this machine that listen on one can then be reached, too."""
    devices: list[str]
    """Device files, for example ``"/dev/video0"``; ``"gpu"`` stands for those of graphics processors."""
    limits: SandboxLimits


class CUDAWheelConfig(TypedDict, total=False):
    """Where wheels for a CUDA version come from. Not supported yet."""

    index_url: str
    index_urls: list[str]
    packages: list[str]
    package_map: dict[str, str]


class _RequiredKeys(TypedDict):
    name: str
    """Unique in its manager; also names the extension's environment."""
    module_path: str
    """The folder with the extension's ``__init__.py``."""


class ExtensionConfig(_RequiredKeys, total=False):
    """Configuration of one extension. Only `name` and `module_path` are needed."""

    module: str
    """Kept for manifests of older versions; it has no effect."""
    isolated: bool
    """Default True: in a process of its own. False: in the host's process, behind the same proxy."""
    dependencies: list[str]
    """Requirements as pip takes them, also paths, URLs and ``-e path``. Default: none, and no environment."""
    extra_index_urls: list[str]
    """Package indexes besides those of pip's and uv's configuration."""
    apis: list[type[ProxiedSingleton]]
    """Singletons of the host that the extension may call."""
    env: dict[str, str]
    """Environment variables of the extension's process, over the inherited ones."""
    call_timeout: float | None
    """Seconds that a call may take. Default None: no limit. `with_timeout` of the proxy overrides it."""
    start_timeout: float | None
    """Seconds from the start of the process to the end of `on_module_loaded`; building the environment does
    not count. Default None: 60 until the process answers, then no limit."""
    sandbox: SandboxConfig
    sandbox_mode: SandboxMode
    share_torch: bool
    """True is not supported yet."""
    share_cuda_ipc: bool
    """True is not supported yet."""
    package_manager: str
    """``"uv"``; others are not supported yet."""
    execution_model: str
    """``"host-coupled"``; others are not supported yet."""
    sealed_host_ro_paths: list[str]
    """Not supported yet, like all that follow."""
    conda_channels: list[str]
    conda_dependencies: list[str]
    conda_platforms: list[str]
    cuda_wheels: CUDAWheelConfig
