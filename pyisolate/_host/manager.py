"""The manager, which loads the extensions of an application and keeps track of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .._env.confinement import Confined, confine_with
from .._settings.settings import Settings
from .._settings.validation import check_extension, check_manager
from .._util.offload import in_threads
from .._util.platforms import isolation_fault
from ..config import ExtensionConfig, ExtensionManagerConfig
from ..errors import ConfigurationError
from ..shared import ExtensionBase, ExtensionLocal
from .extension import Completion, Extension, Preload, Runtime, finish_all
from .forks import register_fork_handler

if not isolation_fault():  # on other platforms these modules cannot be imported
    from .._env.interpreter import interpreter
    from .isolated import IsolatedRuntime

__all__ = ["ExtensionManager"]

_T = TypeVar("_T", bound=ExtensionLocal)
_STARTS_AT_ONCE = 8


class ExtensionManager(Generic[_T]):
    """Load, start and stop extensions of one type.

    `extension_type` is instantiated in the process of each extension; see `ExtensionBase`. At the end of
    ``async with``, or of ``with`` in programs without asyncio, all extensions are stopped.

    The lock guards `extensions`. A thread that holds it waits for nothing.

    Raises ConfigurationError.
    """

    extensions: dict[str, Extension]
    """The loaded extensions, by name."""

    def __init__(self, extension_type: type[_T], config: ExtensionManagerConfig) -> None:
        if not (isinstance(extension_type, type) and issubclass(extension_type, ExtensionLocal)):
            raise ConfigurationError(
                f"extension_type must be a subclass of ExtensionBase, not {extension_type!r}"
            )
        self.extension_type = extension_type
        self.config = config
        self.extensions = {}
        self._root, self._python = check_manager(config)
        self._lock = threading.Lock()
        register_fork_handler(self)

    def after_fork(self) -> None:
        """Replace the lock, so that the manager can be used in the child."""
        self._lock = threading.Lock()

    def load_extension(self, config: ExtensionConfig) -> Extension:
        """Return a proxy for the extension. The first call, or ``await``, starts the extension.

        In the child of a fork, an extension that the parent process has started can be loaded again.

        Raises ConfigurationError. Raises ValueError if an extension with that name is loaded, unless that
        one was stopped and has not been called since. Then it is stopped for good.
        """
        settings = check_extension(config, self.config.get("start_method", "auto"))
        with self._lock:
            there = self.extensions.get(settings.name)
            if there is not None and not (there._runtime.is_stopped or there._runtime.is_foreign):
                raise ValueError(
                    f"extension {settings.name!r} is already loaded, and stays so when its process ends; "
                    f"stop it first, with stop_extension({settings.name!r}), or give this one another name"
                )
            extension = Extension(self._runtime(settings), settings, config)
            self.extensions[settings.name] = extension
        if there is not None:
            there._runtime.stop(final=True)
        return extension

    def stop_extension(self, name: str) -> Completion:
        """Stop an extension for good, and free its name; see `Extension.stop`.

        Its calls raise ExtensionStopped from then on. Raises ValueError if no extension has that name.
        """
        with self._lock:
            extension = self.extensions.pop(name, None)
        if extension is None:
            raise ValueError(f"extension {name!r} is not loaded")
        return finish_all([extension._runtime.stop(final=True)])

    def preload(self, extensions: Iterable[ExtensionConfig | Extension | str]) -> Preload:
        """Start extensions concurrently, before they are needed.

        Each item is a loaded extension, its name, or a configuration. A configuration is loaded if no
        extension with its name is. The starts have begun when this returns. To get the extensions when all
        have started, use ``await manager.preload(...)`` in a coroutine, else
        ``manager.preload(...).wait()``.

        Raises TypeError if `extensions` is a single extension instead of a list, ConfigurationError, and
        ValueError for an extension that this manager has not loaded. Waiting raises what the first call of an
        extension raises. If a start has failed, the next call tries again.
        """
        if isinstance(extensions, (str, Mapping, Extension)):
            raise TypeError(f"preload takes a list of extensions: preload([{extensions!r}])")
        chosen = [self._find_or_load(item) for item in extensions]
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None:  # this loop runs what extensions call in the host while they load
            return Preload(chosen, [_in_loop(loop, extension) for extension in chosen])
        works = [extension.ensure_process_started for extension in chosen]
        return Preload(chosen, in_threads("preload", works, _STARTS_AT_ONCE))

    def stop_all_extensions(self) -> Completion:
        """Stop all extensions for good, concurrently. Together they have as long as one extension has.

        See `Extension.stop` for when this returns. In a coroutine use
        ``await manager.stop_all_extensions()``.
        """
        with self._lock:
            extensions = list(self.extensions.values())
            self.extensions.clear()
        return finish_all([extension._runtime.stop(final=True) for extension in extensions])

    def __enter__(self) -> ExtensionManager[_T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_all_extensions()

    async def __aenter__(self) -> ExtensionManager[_T]:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop_all_extensions()

    def _find_or_load(self, item: ExtensionConfig | Extension | str) -> Extension:
        if isinstance(item, Extension):
            if self.extensions.get(item.name) is not item:
                raise ValueError(f"extension {item.name!r} is not loaded by this manager")
            return item
        name = item.get("name") if isinstance(item, Mapping) else item
        extension = self.extensions.get(name) if isinstance(name, str) else None
        if extension is not None:
            return extension
        if isinstance(item, str):
            raise ValueError(f"extension {item!r} is not loaded")
        return self.load_extension(item)

    def _runtime(self, settings: Settings) -> Runtime:
        extension_type: type[Any] = self.extension_type
        if not settings.isolated:
            from .local.runtime import LocalRuntime

            return LocalRuntime(settings, extension_type)
        fault = isolation_fault()
        if fault:
            raise ConfigurationError(f"configuration of extension {settings.name!r}: {fault}")
        interpreter(self._python)  # raises its errors here, before anything has been started
        return IsolatedRuntime(settings, self._root, extension_type, self._python)


def _in_loop(loop: asyncio.AbstractEventLoop, extension: Extension) -> Future[None]:
    """Start an extension in a task of the loop. Return a future for the end of the start."""

    async def start() -> None:
        await extension

    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    task = loop.create_task(start())
    task.add_done_callback(lambda task: _copy_outcome(task, future))
    return future


def _copy_outcome(task: asyncio.Task[None], future: Future[None]) -> None:
    if task.cancelled():
        future.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(None)


@contextmanager
def _confine(root: str, python: str, config: ExtensionConfig) -> Iterator[Confined]:
    """Load an extension that builds a package. Its process ends at the end of ``with``."""
    with ExtensionManager(ExtensionBase, {"venv_root_path": root, "python_executable": python}) as manager:
        yield Confined(manager.load_extension(config).sync, manager.stop_all_extensions)


confine_with(_confine)
