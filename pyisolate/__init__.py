"""Python extensions in processes of their own, called as if they were in yours.

manager = ExtensionManager(ExtensionBase, {"venv_root_path": "./venvs"})
greeter = manager.load_extension({"name": "greeter", "module_path": "./greeter", "dependencies": ["numpy<2"]})
print(await greeter.greet("world"))
await greeter.stop()
"""

from . import devices as _devices
from . import frameworks as _frameworks
from ._core import Call, __version__
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
from .extension import Extension
from .manager import ExtensionManager
from .registry import register_type
from .sandbox import SandboxLayer, SandboxStatus
from .shared import ExtensionBase, ExtensionLocal
from .singletons import ProxiedSingleton, SingletonMetaclass, local_execution, singleton_scope
from .tensors import empty, empty_array, empty_like

_devices.install()
_frameworks.install()

__all__ = [
    "CUDAWheelConfig",
    "Call",
    "CallTimeout",
    "ConfigurationError",
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
    "ProtocolError",
    "ProxiedSingleton",
    "PyIsolateError",
    "RemoteError",
    "RestartConfig",
    "SandboxConfig",
    "SandboxError",
    "SandboxLayer",
    "SandboxLimits",
    "SandboxMode",
    "SandboxStatus",
    "SingletonMetaclass",
    "__version__",
    "empty",
    "empty_array",
    "empty_like",
    "local_execution",
    "register_type",
    "singleton_scope",
]
