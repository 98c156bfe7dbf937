"""The exceptions and warnings of the package.

Those that the C module raises itself are defined there; here are the ones that only Python code raises.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._core import (
    CallTimeout,
    ExtensionDied,
    ExtensionHung,
    ExtensionStopped,
    ForkedProcessError,
    ProtocolError,
    PyIsolateError,
    RemoteError,
    SandboxError,
)

__all__ = [
    "CallTimeout",
    "ConfigurationError",
    "EnvironmentBuildError",
    "ExtensionDied",
    "ExtensionHung",
    "ExtensionStopped",
    "ForkedProcessError",
    "ProtocolError",
    "PyIsolateError",
    "RemoteError",
    "SandboxError",
]


class ConfigurationError(PyIsolateError, ValueError):
    """A configuration is wrong; the message names the key and what to do. Nothing has been created."""


class EnvironmentBuildError(PyIsolateError):
    """The environment of an extension could not be built; nothing half-made is left."""

    name: str
    """The extension's name."""
    command: list[str]
    """What was run, or an empty list when nothing could be run."""
    returncode: int | None
    """Its exit status, minus the signal's number, or None when it did not run."""
    stderr: str
    """The last lines that it wrote to stderr."""

    def __init__(
        self,
        message: str,
        *,
        name: str,
        command: Sequence[str] = (),
        returncode: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.name = name
        self.command = list(command)
        self.returncode = returncode
        self.stderr = stderr
