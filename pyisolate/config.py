"""The two configurations, which are plain dictionaries.

How they are checked is in validation.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .singletons import ProxiedSingleton

__all__ = ["CUDAWheelConfig", "ExtensionConfig", "ExtensionManagerConfig", "SandboxConfig", "SandboxMode"]


class SandboxMode(Enum):
    """How much an extension's process is to be confined."""

    REQUIRED = "required"
    """Confined. There is no sandbox yet: a warning says so."""
    DISABLED = "disabled"
    """Not confined, and the user knows it: no warning."""


class ExtensionManagerConfig(TypedDict):
    """Configuration of an `ExtensionManager`."""

    venv_root_path: str
    """The folder for the environments of extensions; it is created when the first one is needed."""


class SandboxConfig(TypedDict, total=False):
    """What a confined extension may reach. It is checked, but not enforced yet."""

    writable_paths: list[str]
    readonly_paths: list[str] | dict[str, str]
    """Paths, or path in the host -> path in the sandbox."""
    network: bool


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
    """Default False: the extension has a PyTorch of its own, and tensors are copied. True: it uses the
    host's, and tensors of the CPU are shared: their storage moves into shared memory when they are first
    sent, and both sides see what either writes. torch is then left out of what its dependencies need."""
    share_numpy: bool
    """Default False: NumPy arrays are copied. True: those that `pyisolate.empty_array` has made, and views of
    them, are shared; others are still copied, because NumPy cannot move an array to other memory."""
    share_cuda_ipc: bool
    """Default False: tensors of a GPU are copied through the memory of the CPU, to the GPU of the same UUID.
    True, with `share_torch`: their memory is shared, where the driver can; where it cannot they are copied,
    with one warning. Not the default, because it has not been run on a GPU yet."""
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
