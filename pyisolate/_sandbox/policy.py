"""Derives the sandbox of an extension's process from its configuration. The core enforces it.

The core refuses everything that is not listed (docs/security-model.md). This module makes the lists: the
interpreter, the extension's environment and module, the folders that the host imports from, and what the
configuration adds. The process writes to a private temporary folder, and sees only a short list of the host's
environment variables.
"""

from __future__ import annotations

import atexit
import fcntl
import glob
import itertools
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._core import HAS_GPU, Session, cuda_devices
from .._settings.settings import Settings
from .._util.files import PACKAGE
from .._util.offload import PerProcess
from .._util.rmtree import Budget, in_background, remove_later, remove_tree
from ..errors import ConfigurationError
from .exclusion import is_below, is_in, split_exclusions, without
from .readable import host_files, interpreter_files, library_files
from .refused_calls import refused_calls
from .status import SandboxLayer, SandboxStatus
from .variables import without_secrets

__all__ = ["Sandbox"]

_log = logging.getLogger("pyisolate")

_PREFIX = "pyisolate-sandbox-"
AT_EXIT = Budget(0.5, 5_000)  # for removing all folders together
_ATTEMPTS = 8
_HOMES = {
    "TMPDIR": "",
    "HOME": "",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}
_DEV = "/dev"
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_GPU = ("nvidia*", "nvidia-caps/*", "dri", "kfd", "dxg")

omitted_layers = 0
"""Layers to omit, as bits. Only tests set it, to show which layer refuses an attempt."""

_untrusted: set[str] = set()
"""Paths that extensions of this process can write to: an extension may have created a link there."""


class Sandbox:
    """The sandbox of one process, with its temporary folder, which exists until `close`.

    Raises OSError if the folder cannot be created, and ConfigurationError.
    """

    def __init__(self, settings: Settings, venv_root: Path, needed: Iterable[str]) -> None:
        self._settings = settings
        self._venv_root = venv_root
        self._needed = list(needed)
        self._report: list[tuple[str, bool, str]] = []
        self._check_writable()
        self._folder = _Folder()
        _untrusted.update(map(os.path.abspath, settings.sandbox.get("writable_paths", ())))
        self._warn_missing("readonly_paths", settings.sandbox.get("readonly_paths", ()))
        self._warn_missing("writable_paths", settings.sandbox.get("writable_paths", ()))

    @property
    def report(self) -> list[tuple[str, bool, str]]:
        """The report of the layers, filled by `Session.spawn`."""
        return self._report

    def status(self, session: Session | None = None) -> SandboxStatus:
        """Return the status of the layers, once the session's process has been started."""
        layers = {name: SandboxLayer(name, active, detail) for name, active, detail in self._report}
        filtered = "system calls" in layers and layers["system calls"].active and session is not None
        refused = refused_calls(session) if filtered else ()
        return SandboxStatus(self._settings.sandbox_mode, layers, refused)

    @property
    def may_leave_group(self) -> bool:
        """Whether the process may leave its process group: without namespaces the filter refuses that."""
        active = {name for name, active, _ in self._report if active}
        return "namespaces" in active or "system calls" not in active

    def missing(self) -> str:
        """Return what prevented the process from being confined, in words."""
        return "; ".join(
            f"{name}: {detail}" for name, active, detail in self._report if not active and detail
        )

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the host's variables that are not secret, and those that name the process's folders.

        The caller adds those in the configuration's `env`, which take precedence. If `env` sets HOME, only
        TMPDIR is set here: the other folders are below HOME by default.
        """
        kept = without_secrets(environ)
        user = f"pyisolate-{os.getuid()}"
        own_home = "HOME" in self._settings.env
        homes = {
            name: os.path.join(self._folder.path, below)
            for name, below in _HOMES.items()
            if name == "TMPDIR" or not own_home
        }
        return {**kept, "USER": user, "LOGNAME": user, **homes}

    def description(self, python: str, environment: Path | None) -> dict[str, Any]:
        """Return the sandbox's description for `Session.spawn`."""
        config = self._settings.sandbox
        readable, listed, excluded = self._readable(python)
        self._warn_links("readonly_paths", config.get("readonly_paths", ()))
        self._warn_links("writable_paths", config.get("writable_paths", ()))
        if environment is not None:
            readable.append(str(environment))  # it is in a folder that is excluded otherwise
        return {
            "readable": readable,
            "listed": listed,
            "writable": list(map(os.path.abspath, config.get("writable_paths", ()))),
            "hidden": excluded,
            "untrusted": list(_untrusted),
            "devices": _devices([*config.get("devices", ()), *self._shared_devices()]),
            "temp": self._folder.path,
            "network": config.get("network", False),
            "local_sockets": config.get("local_sockets", False),
            "limits": dict(config.get("limits", {})),
            "omit": omitted_layers,
        }

    def _readable(self, python: str) -> tuple[list[str], list[str], list[str]]:
        """Return the paths that the process can read, those that it can list, and those that are excluded."""
        config, root = self._settings.sandbox, str(self._venv_root)
        interpreter = interpreter_files(python)
        chosen, excluded = split_exclusions(config.get("host_paths", ()))
        entries = [] if chosen else [entry for entry in sys.path if not is_below(entry, interpreter)]
        readable, listed = host_files(entries, str(self._settings.module_path), root)
        permitted, more = without([*chosen, *readable, *config.get("readonly_paths", ())], excluded)
        listed = [path for path in listed if not is_below(path, excluded)] + more
        needed = [
            *interpreter,
            str(self._settings.module_path),
            PACKAGE,
            *self._needed,
        ]
        needed += _editable(self._settings.dependencies)
        needed += library_files(os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
        if config.get("network"):
            needed += filter(os.path.isabs, map(os.environ.get, _CERTIFICATES, ("", "")))
        needed, more = without(needed, excluded, narrower=True)
        permitted, above = without([*permitted, *needed], [root], narrower=True)  # others' environments
        hidden = [*excluded, *([root] if self._venv_root.exists() else [])]
        return permitted, [*listed, *more, *above], hidden

    def _warn_links(self, key: str, paths: Iterable[str]) -> None:
        """Warn about paths that are ignored: links in places where extensions can write are not followed."""
        text = "extension %r: %s under %r leads through the link %s, which an extension may have created, so "
        text += "it is ignored; name the target of the link instead"
        roots = {os.path.realpath(root) for root in _untrusted}
        for path in paths:
            for link in _links(path):
                if is_below(link, roots):
                    _log.warning(text, self._settings.name, path, key, link)
                    break

    def _check_writable(self) -> None:
        """Refuse write access to environments: changing one, or creating one first, escapes the sandbox."""
        root = str(self._venv_root)  # it need not exist yet: an extension loaded later may have it created
        for path in self._settings.sandbox.get("writable_paths", ()):
            if is_in(root, path):
                raise ConfigurationError(
                    f"configuration of extension {self._settings.name!r}: 'writable_paths' has {path!r}, "
                    f"which contains the folder of environments, {root!r}; set another 'venv_root_path'"
                )

    def _warn_missing(self, key: str, paths: Iterable[str]) -> None:
        text = "extension %r: %s under %r does not exist, so it is ignored; create it before the start"
        for path in paths:
            if not os.path.exists(path):
                _log.warning(text, self._settings.name, path, key)

    def _shared_devices(self) -> list[str]:
        """Return the devices that the configuration needs."""
        if not (self._settings.share_cuda_ipc and HAS_GPU):
            return []
        cuda_devices()  # the driver may create the device files only when the devices are first used
        return ["gpu"]

    def close(self, remove: Callable[[str], None] = remove_later) -> None:
        """Have the folder removed by `remove`. May be called more than once."""
        self._folder.close(remove)


class _Folder:
    """The private temporary folder of an extension, in the folder that this process has for all of them."""

    def __init__(self) -> None:
        self._closed = False
        for attempt in range(_ATTEMPTS):
            try:
                self.path = _host_folder().add()
                return
            except FileNotFoundError:  # another program has removed the host's folder
                if attempt + 1 == _ATTEMPTS:
                    raise

    def close(self, remove: Callable[[str], None]) -> None:
        closed, self._closed = self._closed, True
        if not closed:
            remove(self.path)


class _HostFolder:
    """This process's folder in the system's temporary folder. One lock marks everything in it as used.

    The folder of a host that has died is not locked; a later host removes it.
    """

    def __init__(self, parent: str) -> None:
        self.lock = -1
        while self.lock < 0:  # repeated if another host removes it before it is locked
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            self.lock = _lock_folder(self.path)
        self._numbers = itertools.count(1)

    def add(self) -> str:
        """Create a folder in it and return its path. Raises FileNotFoundError if this folder was removed."""
        path = os.path.join(self.path, str(next(self._numbers)))
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            self._discard()
            raise
        return path

    def _discard(self) -> None:
        """Stop using this folder. Another one is created when it is needed."""
        folders = _all_folders.get()
        with folders.lock:
            parent = os.path.dirname(self.path)
            if folders.by_parent.get(parent) is self:
                del folders.by_parent[parent]
                os.close(self.lock)


class _HostFolders:
    """The folders of this process. The lock is held while one is created, but not during any wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_parent: dict[str, _HostFolder] = {}


_all_folders = PerProcess(_HostFolders)
_swept: set[str] = set()


def _host_folder() -> _HostFolder:
    parent, folders = tempfile.gettempdir(), _all_folders.get()
    with folders.lock:
        folder = folders.by_parent.get(parent)
        if folder is None:
            folder = folders.by_parent[parent] = _HostFolder(parent)
        sweep = parent not in _swept
        _swept.add(parent)
    if sweep:
        in_background(lambda budget: _sweep(parent, budget))
    return folder


def _lock_folder(path: str) -> int:
    """Return a file descriptor of the folder, locked as used; -1 if it was or is being removed."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.stat(path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return -1
            raise
        return descriptor
    return -1


def _sweep(parent: str, budget: Budget) -> None:
    """Remove the folders that hosts left when they died."""
    for path in glob.glob(os.path.join(glob.escape(parent), _PREFIX + "*")):
        if not budget.spend():
            return
        try:
            if os.lstat(path).st_uid != os.getuid():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path, budget=budget)
        except OSError:
            pass  # in use
        finally:
            os.close(descriptor)


@atexit.register
def _remove_host_folders() -> None:
    """Remove this host's folders, as far as the budget permits; a later host removes the rest."""
    folders = _all_folders.get()
    with folders.lock:
        left = list(folders.by_parent.values())
        folders.by_parent.clear()
    AT_EXIT.resume()
    for folder in left:
        remove_tree(folder.path, budget=AT_EXIT)
        os.close(folder.lock)


def _links(path: str) -> Iterator[str]:
    """Iterate over the links in an absolute path's own components, not in the targets of links."""
    for end, letter in enumerate(path + os.sep):
        if letter == os.sep and end and os.path.islink(path[:end]):
            folder, name = os.path.split(path[:end])
            yield os.path.join(os.path.realpath(folder), name)


def _editable(dependencies: Iterable[str]) -> list[str]:
    """Return the folders of editable dependencies."""
    paths = (text.removeprefix("-e ").split("[")[0] for text in dependencies if text.startswith("-e "))
    return [path for path in paths if os.path.isabs(path)]


def _devices(devices: Iterable[str]) -> list[str]:
    """Return the device files; ``gpu`` stands for those of the graphics processors that exist."""
    found: list[str] = []
    for device in devices:
        if device == "gpu":
            found += [path for name in _GPU for path in sorted(glob.glob(os.path.join(_DEV, name)))]
        else:
            found.append(device)
    return found
