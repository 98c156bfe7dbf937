"""Checks configurations before anything is created, and fills in the defaults.

Each mistake raises a ConfigurationError that names the key and says what to do.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

from .._env.bounds import DEFAULT_SECONDS, DEFAULT_SIZE
from ..config import (
    ExtensionConfig,
    ExtensionManagerConfig,
    SandboxConfig,
    SandboxLimits,
    SandboxMode,
    StartMethod,
)
from ..errors import ConfigurationError
from ..singletons import ProxiedSingleton
from .kinds import (
    InvalidValue,
    absolute_path,
    any_path,
    boolean,
    byte_count,
    list_of,
    seconds,
    string,
    strings,
    type_name,
    unsupported,
)
from .settings import RestartPolicy, Settings

MAX_NAME_BYTES = 100
DEFAULT_OPEN_CALLS, MAX_OPEN_CALLS = 4096, 1 << 20
_MOST_THREADS = 1024
RESERVED_VARIABLES = ("PISO_FD", "PYISOLATE_CHILD", "PYISOLATE_STARTING", "PYISOLATE_PATH")


def check_manager(config: ExtensionManagerConfig) -> tuple[Path, str | None]:
    """Return the absolute path of the folder for environments, and the Python of extensions if it is set.

    Raises ConfigurationError.
    """
    where = "configuration of the manager"
    required = ExtensionManagerConfig.__required_keys__
    _check_keys(where, config, required, required | ExtensionManagerConfig.__optional_keys__)
    key = "venv_root_path"
    try:
        root = _venv_root(config["venv_root_path"])
        key = "start_method"
        _start_method(config.get("start_method", "auto"))
        key = "python_executable"
        python = _executable(config["python_executable"]) if "python_executable" in config else None
    except InvalidValue as error:
        raise ConfigurationError(f"{where}: {key!r} {error}") from None
    return root, python


def check_extension(config: ExtensionConfig, start_method: StartMethod = "auto") -> Settings:
    """Return the settings of an extension. `start_method` applies unless the configuration sets it.

    Raises ConfigurationError.
    """
    name = config.get("name") if isinstance(config, Mapping) else None
    where = "configuration of " + (f"extension {name!r}" if isinstance(name, str) else "an extension")
    required = ExtensionConfig.__required_keys__
    _check_keys(where, config, required, required | ExtensionConfig.__optional_keys__)
    where = f"configuration of extension {config['name']!r}"
    values: dict[str, Any] = {}
    for key, value in config.items():
        try:
            values[key] = _CHECKS[key](value)
        except InvalidValue as error:
            raise ConfigurationError(f"{where}: {key!r} {error}") from None
    if values.get("build_network") and not values.get("allow_source_builds"):
        raise ConfigurationError(f"{where}: 'build_network' needs 'allow_source_builds': True beside it")
    share_torch = values.get("share_torch", False)
    if values.get("share_cuda_ipc") and not share_torch:
        raise ConfigurationError(f"{where}: 'share_cuda_ipc' needs 'share_torch': True beside it")
    if share_torch and importlib.util.find_spec("torch") is None:
        raise ConfigurationError(
            f"{where}: 'share_torch' needs PyTorch in the host, and it is not installed: pip install torch"
        )
    return Settings(
        name=values["name"],
        module_path=values["module_path"],
        isolated=values.get("isolated", True),
        dependencies=values.get("dependencies", ()),
        extra_index_urls=values.get("extra_index_urls", ()),
        allow_source_builds=values.get("allow_source_builds", False),
        build_network=values.get("build_network", False),
        environment_timeout=values.get("environment_timeout", DEFAULT_SECONDS),
        environment_size=values.get("environment_size", DEFAULT_SIZE),
        apis=values.get("apis", ()),
        env=values.get("env", {}),
        call_timeout=values.get("call_timeout"),
        refuse_subclasses=values.get("subclasses") == "refuse",
        value_limit=values.get("value_limit"),
        start_timeout=values.get("start_timeout"),
        watchdog=values.get("watchdog"),
        max_open_calls=values.get("max_open_calls", DEFAULT_OPEN_CALLS),
        threads=values.get("threads"),
        restart=values.get("restart"),
        echo_output=values.get("echo_output"),
        sandbox_mode=values.get("sandbox_mode", SandboxMode.REQUIRED),
        share_torch=share_torch,
        share_cuda_ipc=values.get("share_cuda_ipc", False),
        share_numpy=values.get("share_numpy", False),
        start_method=values.get("start_method", start_method),
        sandbox=values.get("sandbox", {}),
    )


def _check_keys(where: str, config: object, required: Collection[str], known: Collection[str]) -> None:
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"{where} must be a dictionary, not {type_name(config)}")
    for key in config:
        if key not in known:
            raise ConfigurationError(f"{where}: {_unknown_key(key, known)}")
    for key in sorted(required):
        if key not in config:
            raise ConfigurationError(f"{where}: {key!r} is missing")


def _unknown_key(key: object, known: Collection[str]) -> str:
    place = next((place for place, keys in _PLACES.items() if key in keys), "")
    import difflib  # not at module level: only mistyped keys need it

    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.85 if place else 0.6)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif place:
        hint = f"it belongs {place}"
    else:
        hint = f"the known keys are {', '.join(sorted(known))}"
    return f"there is no key {key!r} here; {hint}"


# ---- single keys ----


def _name(value: object) -> str:
    name = string(value)
    if not name or name in (".", "..") or name != name.strip():
        raise InvalidValue(f"must be the name of a folder without spaces around it, not {name!r}")
    if any(separator in name for separator in "/\\") or not name.isprintable():
        raise InvalidValue(f"must not contain path separators or control characters: {name!r}")
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise InvalidValue(f"must have at most {MAX_NAME_BYTES} bytes")
    return name


def _venv_root(value: object) -> Path:
    root = Path(absolute_path(value))
    if root.exists() and not root.is_dir():
        raise InvalidValue(f"must be a folder, but {str(root)!r} is a file")
    return root


def _executable(value: object) -> str:
    """Return the absolute path with links kept: the interpreter of an environment is a link."""
    path = absolute_path(value)
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise InvalidValue(f"must be the path of a Python interpreter, but {path!r} is not a program")
    return path


def _module_path(value: object) -> Path:
    path = Path(absolute_path(value))
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InvalidValue(f"must be the extension's folder, but {str(path)!r} {what}")
    if not (path / "__init__.py").is_file():
        raise InvalidValue(f"must be a folder with an __init__.py, but {str(path)!r} has none")
    return path


def _dependency(value: object) -> str:
    from .._env.dependencies import (
        parse_dependency,  # slow to import, and most extensions have no dependencies
    )

    try:
        return parse_dependency(string(value))
    except FileNotFoundError:
        raise InvalidValue(
            f"is {value!r}, but the working folder of this process has been removed; use an absolute path"
        ) from None
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def _dependencies(value: object) -> tuple[str, ...]:
    items = value
    if value and isinstance(value, (list, tuple)):
        from .._env.dependencies import join_options

        items = join_options(value)
    return tuple(filter(None, list_of(_dependency, "requirements")(items)))


def _api(value: object) -> type[ProxiedSingleton]:
    if not (isinstance(value, type) and issubclass(value, ProxiedSingleton)):
        raise InvalidValue(f"must be a subclass of ProxiedSingleton, not {value!r}")
    return value


def _threads(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_THREADS:
        raise InvalidValue(f"must be a number of threads from 1 to {_MOST_THREADS:,}, or None, not {value!r}")
    return value


def _subclasses(value: object) -> object:
    if value not in ("send", "refuse"):
        raise InvalidValue(f"must be 'send' or 'refuse', not {value!r}")
    return value


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"must be a dictionary of strings, not {type_name(value)}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidValue(f"has the variable {name!r}: names must be strings without '='")
        if not isinstance(text, str) or "\0" in text:
            raise InvalidValue(f"has {text!r} for {name}: values must be strings")
        if name in RESERVED_VARIABLES:
            raise InvalidValue(f"must not set {name}, which PyIsolate sets itself")
    return dict(value)


def _open_calls(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_OPEN_CALLS:
        raise InvalidValue(f"must be a number of calls from 1 to {MAX_OPEN_CALLS:,}, not {value!r}")
    return value


def _policy(value: object) -> str:
    if value not in ("never", "on-failure"):
        raise InvalidValue(f"must be 'never' or 'on-failure', not {value!r}")
    return str(value)


def _limit(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValue(f"must be a number of times, not {value!r}")
    return value


def _delay(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InvalidValue(f"must be a number of seconds, not {value!r}")
    return float(value)


_RESTART_CHECKS: dict[str, Callable[[object], Any]] = {"policy": _policy, "limit": _limit, "delay": _delay}


def _restart(value: object) -> RestartPolicy | None:
    items = value if isinstance(value, Mapping) else {"policy": value}
    checked: dict[str, Any] = {"policy": "on-failure", "limit": 5, "delay": 0.1}
    for key, item in items.items():
        if key not in _RESTART_CHECKS:
            raise InvalidValue(f"is invalid: {_unknown_key(key, _RESTART_CHECKS)}")
        try:
            checked[key] = _RESTART_CHECKS[key](item)
        except InvalidValue as error:
            raise InvalidValue(f"is invalid: {key!r} {error}" if items is value else str(error)) from None
    if checked.pop("policy") == "never":
        return None
    return RestartPolicy(**checked)


def _sandbox(value: object) -> SandboxConfig:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"must be a dictionary, not {type_name(value)}")
    checked: dict[str, object] = {}
    for key, item in value.items():
        if key not in _SANDBOX_CHECKS:
            raise InvalidValue(f"is invalid: {_unknown_key(key, _SANDBOX_CHECKS)}")
        try:
            checked[key] = _SANDBOX_CHECKS[key](item)
        except InvalidValue as error:
            raise InvalidValue(f"is invalid: {key!r} {error}") from None
    return cast(SandboxConfig, checked)


_paths = list_of(absolute_path, "paths")


def _readonly_paths(value: object) -> object:
    if not isinstance(value, Mapping):
        return _paths(value)
    for source, target in value.items():
        if absolute_path(source) != absolute_path(target):
            raise InvalidValue(
                f"maps {source!r} to {target!r}; files keep their paths in the sandbox: map it to itself"
            )
    return _paths(list(value))


def _host_path(value: object) -> str:
    """Return the absolute path. A leading ``!``, which excludes the path, is kept."""
    path = any_path(value)
    mark = "!" if path.startswith("!") else ""
    return mark + absolute_path(path.removeprefix(mark))


def _device(value: object) -> str:
    device = string(value)
    if device != "gpu" and (not device.startswith("/dev/") or ".." in device.split("/")):
        raise InvalidValue(f"must be a path below /dev, or 'gpu', not {device!r}")
    return device


def _limits(value: object) -> object:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"must be a dictionary, not {type_name(value)}")
    for key, number in value.items():
        if key not in SandboxLimits.__optional_keys__:
            raise InvalidValue(f"is invalid: {_unknown_key(key, SandboxLimits.__optional_keys__)}")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 1 << 63:
            raise InvalidValue(f"is invalid: {key!r} must be a positive whole number, not {number!r}")
    return dict(value)


def _sandbox_mode(value: object) -> SandboxMode:
    try:
        return SandboxMode(value)
    except ValueError:
        raise InvalidValue(f"must be SandboxMode.REQUIRED or SandboxMode.DISABLED, not {value!r}") from None


def _start_method(value: object) -> object:
    if value not in ("auto", "fork", "exec"):
        raise InvalidValue(f"must be 'auto', 'fork' or 'exec', not {value!r}")
    return value


def _cuda_wheels(value: object) -> object:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"must be a dictionary, not {type_name(value)}")
    return value


_SANDBOX_CHECKS: dict[str, Callable[[object], object]] = {
    "writable_paths": _paths,
    "readonly_paths": _readonly_paths,
    "host_paths": list_of(_host_path, "paths"),
    "network": boolean,
    "local_sockets": boolean,
    "devices": list_of(_device, "paths"),
    "limits": _limits,
}

_CHECKS: dict[str, Callable[[object], Any]] = {
    "name": _name,
    "module_path": _module_path,
    "module": string,
    "isolated": boolean,
    "dependencies": _dependencies,
    "extra_index_urls": strings,
    "allow_source_builds": boolean,
    "build_network": boolean,
    "environment_timeout": seconds,
    "environment_size": byte_count,
    "apis": list_of(_api, "ProxiedSingleton classes"),
    "env": _env,
    "call_timeout": seconds,
    "subclasses": _subclasses,
    "value_limit": byte_count,
    "start_timeout": seconds,
    "watchdog": seconds,
    "max_open_calls": _open_calls,
    "threads": _threads,
    "restart": _restart,
    "echo_output": boolean,
    "sandbox": _sandbox,
    "sandbox_mode": _sandbox_mode,
    "start_method": _start_method,
    "share_torch": boolean,
    "share_cuda_ipc": boolean,
    "share_numpy": boolean,
    "package_manager": unsupported(string, unless=["uv"]),
    "execution_model": unsupported(string, unless=["host-coupled"]),
    "sealed_host_ro_paths": unsupported(strings),
    "conda_channels": unsupported(strings),
    "conda_dependencies": unsupported(strings),
    "conda_platforms": unsupported(strings),
    "cuda_wheels": unsupported(_cuda_wheels),
}

_PLACES: dict[str, Collection[str]] = {
    "in 'sandbox'": _SANDBOX_CHECKS,
    "in 'limits', which belongs in 'sandbox'": SandboxLimits.__optional_keys__,
    "beside the other keys of the extension": _CHECKS,
    "in 'restart'": _RESTART_CHECKS,
}
"""The known keys of each part of a configuration, to say where a misplaced key belongs."""
