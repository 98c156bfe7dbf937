"""Runs Python extensions in separate processes and calls them as if they were in the same process.

manager = ExtensionManager(ExtensionBase, {"venv_root_path": "./venvs"})
greeter = manager.load_extension({"name": "greeter", "module_path": "./greeter", "dependencies": ["numpy"]})
print(await greeter.greet("world"))
await greeter.stop()
"""

import os as _os

if "PYISOLATE_STARTING" in _os.environ:
    from ._util.started_by_mistake import leave

    leave()

from ._util.platforms import python_fault as _python_fault

if _python_fault():
    raise ImportError(_python_fault())

try:
    from ._core import Call, Opaque, Ref, RemoteFunction, __version__, check_cancelled, gather
except ImportError as _error:
    from ._util.platforms import install_core_stub as _install_core_stub

    _install_core_stub(__name__, __path__[0], _error)
    from ._core import Call, Opaque, Ref, RemoteFunction, __version__, check_cancelled, gather

from typing import TYPE_CHECKING

from ._rpc import converters as _converters
from ._rpc import frameworks as _frameworks
from ._rpc import gpus as _gpus
from ._rpc import tensor_threads as _tensor_threads
from ._rpc.current_call import CurrentCall, current_call
from ._rpc.functions import function
from ._rpc.registry import register_type
from ._util.compat import flush_tensor_keeper, purge_orphan_sender_shm_files
from .config import (
    CUDAWheelConfig,
    ExtensionConfig,
    ExtensionManagerConfig,
    RestartConfig,
    SandboxConfig,
    SandboxLimits,
    SandboxMode,
)
from .errors import (
    CallTimeout,
    ConfigurationError,
    EnvironmentBuildError,
    ExtensionDied,
    ExtensionHung,
    ExtensionStopped,
    ForkedProcessError,
    ProtocolError,
    PyIsolateError,
    RemoteError,
    SandboxError,
)
from .shared import ExtensionBase, ExtensionLocal
from .singletons import ProxiedSingleton, SingletonMetaclass, local_execution, singleton_scope
from .tensors import empty, empty_array, empty_like

if TYPE_CHECKING:
    from ._host.extension import Extension
    from ._host.manager import ExtensionManager
    from ._sandbox.status import SandboxLayer, SandboxStatus

_gpus.install()
_frameworks.install()
_converters.install()
_tensor_threads.install()

__all__ = [
    "CUDAWheelConfig",
    "Call",
    "CallTimeout",
    "ConfigurationError",
    "CurrentCall",
    "EnvironmentBuildError",
    "Extension",
    "ExtensionBase",
    "ExtensionConfig",
    "ExtensionDied",
    "ExtensionHung",
    "ExtensionLocal",
    "ExtensionManager",
    "ExtensionManagerConfig",
    "ExtensionStopped",
    "ForkedProcessError",
    "Opaque",
    "ProtocolError",
    "ProxiedSingleton",
    "PyIsolateError",
    "Ref",
    "RemoteError",
    "RemoteFunction",
    "RestartConfig",
    "SandboxConfig",
    "SandboxError",
    "SandboxLayer",
    "SandboxLimits",
    "SandboxMode",
    "SandboxStatus",
    "SingletonMetaclass",
    "__version__",
    "check_cancelled",
    "current_call",
    "empty",
    "empty_array",
    "empty_like",
    "flush_tensor_keeper",
    "function",
    "gather",
    "local_execution",
    "purge_orphan_sender_shm_files",
    "register_type",
    "singleton_scope",
]

# Names that only a host needs are imported on first access: most extensions never use them.
_HOST_NAMES = {
    "Extension": "_host.extension",
    "ExtensionManager": "_host.manager",
    "SandboxLayer": "_sandbox.status",
    "SandboxStatus": "_sandbox.status",
}


def __getattr__(name: str) -> object:
    if name not in _HOST_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_HOST_NAMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
