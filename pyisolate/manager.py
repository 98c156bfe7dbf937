"""Loads the extensions of an application and keeps track of them."""

from __future__ import annotations

import logging
import threading
from typing import Any, Generic, TypeVar

from .config import ExtensionConfig, ExtensionManagerConfig
from .errors import ConfigurationError
from .extension import Completion, Extension, Runtime
from .isolated import IsolatedRuntime
from .local import LocalRuntime
from .shared import ExtensionLocal
from .validation import Settings, check_extension, check_manager

__all__ = ["ExtensionManager"]

_T = TypeVar("_T", bound=ExtensionLocal)
_log = logging.getLogger("pyisolate")


class ExtensionManager(Generic[_T]):
    """The extensions of one kind.

    `extension_type` is instantiated in the process of each extension; see `ExtensionBase`.
    Raises ConfigurationError.
    """

    extensions: dict[str, Extension]
    """Those that are loaded, by name."""

    def __init__(self, extension_type: type[_T], config: ExtensionManagerConfig) -> None:
        if not (isinstance(extension_type, type) and issubclass(extension_type, ExtensionLocal)):
            raise ConfigurationError(
                f"extension_type must be a subclass of ExtensionBase, not {extension_type!r}"
            )
        self.extension_type = extension_type
        self.config = config
        self.extensions = {}
        self._root = check_manager(config)
        self._lock = threading.Lock()

    def load_extension(self, config: ExtensionConfig) -> Extension:
        """A proxy for the extension. Nothing runs yet: the first call, or ``await``, starts it.

        Raises ConfigurationError, and ValueError when an extension of that name is already loaded.
        """
        settings = check_extension(config)
        with self._lock:
            if settings.name in self.extensions:
                raise ValueError(f"extension {settings.name!r} is already loaded")
            extension = Extension(self._runtime(settings), settings, config, self._forget)
            self.extensions[settings.name] = extension
        return extension

    def stop_extension(self, name: str) -> Completion:
        """Stop an extension; see `Extension.stop`. Raises ValueError when none of that name is loaded."""
        extension = self.extensions.get(name)
        if extension is None:
            raise ValueError(f"extension {name!r} is not loaded")
        return extension.stop()

    def stop_all_extensions(self) -> Completion:
        """Stop all extensions, one after the other. What goes wrong is logged."""
        completions = []
        for extension in list(self.extensions.values()):
            try:
                completions.append(extension.stop())
            except Exception:
                _log.exception("extension %r could not be stopped", extension.name)
        return Completion(completions)

    def _runtime(self, settings: Settings) -> Runtime:
        extension_type: type[Any] = self.extension_type
        if settings.isolated:
            return IsolatedRuntime(settings, self._root, extension_type)
        return LocalRuntime(settings, extension_type)

    def _forget(self, extension: Extension) -> None:
        with self._lock:
            if self.extensions.get(extension.name) is extension:
                del self.extensions[extension.name]
