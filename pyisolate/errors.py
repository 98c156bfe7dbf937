"""The exceptions and warnings of the package.

The C module defines the exceptions that it raises. This module defines those that only Python code raises.
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
    """A configuration is invalid; the message names the key and says what to do. Nothing was created."""


class EnvironmentBuildError(PyIsolateError):
    """The environment of an extension could not be built. No incomplete environment is left."""

    name: str
    """The extension's name."""
    command: list[str]
    """The command that failed, or an empty list if no command was run."""
    returncode: int | None
    """Its exit status, or the negative number of the signal that ended it, or None if it did not run."""
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
