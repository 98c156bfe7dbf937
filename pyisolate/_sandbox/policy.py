"""What an extension's process may reach: from its configuration to what the core confines it with.

The core refuses what is not listed (docs/security-model.md). Here is decided what is: the interpreter, the
extension's environment and module, what the host imports from, and what the configuration adds. What the
process writes goes to a folder of its own, and of the host's environment variables it sees a short list.
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

from .._core import Session, cuda_devices
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
AT_EXIT = Budget(0.5, 5_000)  # for all folders together
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
"""Layers to leave out, as bits. Set by tests only, to show which layer refuses what."""

_untrusted: set[str] = set()
"""Paths that extensions of this process can write to: a link there may be one of theirs."""


class Sandbox:
    """The sandbox of one process, with its temporary folder, which is there from the start to `close`.

    Raises OSError when the folder cannot be made, and ConfigurationError.
    """

    def __init__(self, settings: Settings, venv_root: Path, needed: Iterable[str]) -> None:
        self._settings = settings
        self._venv_root = venv_root
        self._needed = list(needed)
        self._report: list[tuple[str, bool, str]] = []
        self._check_writable()
        self._folder = _Folder()
        _untrusted.update(map(os.path.abspath, settings.sandbox.get("writable_paths", ())))
        self._tell_missing("readonly_paths", settings.sandbox.get("readonly_paths", ()))
        self._tell_missing("writable_paths", settings.sandbox.get("writable_paths", ()))

    @property
    def report(self) -> list[tuple[str, bool, str]]:
        """Filled by `Session.spawn`."""
        return self._report

    def status(self, session: Session | None = None) -> SandboxStatus:
        """What holds, after the process of the session has been started."""
        layers = {name: SandboxLayer(name, active, detail) for name, active, detail in self._report}
        filtered = "system calls" in layers and layers["system calls"].active and session is not None
        refused = refused_calls(session) if filtered else ()
        return SandboxStatus(self._settings.sandbox_mode, layers, refused)

    @property
    def may_leave_group(self) -> bool:
        """Whether the process may: without namespaces the filter refuses it."""
        active = {name for name, active, _ in self._report if active}
        return "namespaces" in active or "system calls" not in active

    def missing(self) -> str:
        """What kept the process from being confined, in words."""
        return "; ".join(
            f"{name}: {detail}" for name, active, detail in self._report if not active and detail
        )

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What of the host's variables is no secret, with the folders for what the process writes.

        Those in the configuration's `env` are added by the caller, and win. With a home folder of its own the
        others, which are below it unless they are said, are left to it.
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
        """For `Session.spawn`."""
        config = self._settings.sandbox
        readable, listed, excluded = self._readable(python)
        self._tell_links("readonly_paths", config.get("readonly_paths", ()))
        self._tell_links("writable_paths", config.get("writable_paths", ()))
        if environment is not None:
            readable.append(str(environment))  # one of those that are excluded
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
        """What it can read, folders that it can list, and what is excluded from both."""
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

    def _tell_links(self, key: str, paths: Iterable[str]) -> None:
        """Of those that are passed over: links where extensions can write are not followed."""
        text = "extension %r: %s under %r leads through the link %s, which an extension can have made; "
        text += "nothing is permitted there"
        roots = {os.path.realpath(root) for root in _untrusted}
        for path in paths:
            for link in _links(path):
                if is_below(link, roots):
                    _log.warning(text, self._settings.name, path, key, link)
                    break

    def _check_writable(self) -> None:
        """Who can change an environment, or make one before it is built, gets out by that."""
        root = str(self._venv_root)  # it need not be there yet: an extension that is loaded later has it made
        for path in self._settings.sandbox.get("writable_paths", ()):
            if is_in(root, path):
                raise ConfigurationError(
                    f"configuration of extension {self._settings.name!r}: 'writable_paths' has {path!r}, in "
                    f"which is the folder of environments, {root!r}; set another 'venv_root_path'"
                )

    def _tell_missing(self, key: str, paths: Iterable[str]) -> None:
        text = "extension %r: %s under %r does not exist, so nothing is permitted there"
        for path in paths:
            if not os.path.exists(path):
                _log.warning(text, self._settings.name, path, key)

    def _shared_devices(self) -> list[str]:
        """Those without which the configuration cannot hold."""
        if not self._settings.share_cuda_ipc:
            return []
        cuda_devices()  # the files of the devices may not be there before somebody has used them
        return ["gpu"]

    def close(self, remove: Callable[[str], None] = remove_later) -> None:
        """Have the folder removed by `remove`. Can be called twice."""
        self._folder.close(remove)


class _Folder:
    """A private temporary folder of an extension, in the one that this process has for all of them."""

    def __init__(self) -> None:
        self._closed = False
        for attempt in range(_ATTEMPTS):
            try:
                self.path = _host_folder().add()
                return
            except FileNotFoundError:  # somebody has swept the host's folder away
                if attempt + 1 == _ATTEMPTS:
                    raise

    def close(self, remove: Callable[[str], None]) -> None:
        closed, self._closed = self._closed, True
        if not closed:
            remove(self.path)


class _HostFolder:
    """The folder of this process below that for temporary files: one lock says that all in it are in use.

    A host that dies leaves it without a lock; then a later host removes it.
    """

    def __init__(self, parent: str) -> None:
        self.lock = -1
        while self.lock < 0:  # again, if somebody sweeps it away before it is locked
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            self.lock = _locked(self.path)
        self._numbers = itertools.count(1)

    def add(self) -> str:
        """A new folder in it. Raises FileNotFoundError when this one is not there any more."""
        path = os.path.join(self.path, str(next(self._numbers)))
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            self._forget()
            raise
        return path

    def _forget(self) -> None:
        """Another one is made when one is needed."""
        folders = _all_folders.get()
        with folders.lock:
            parent = os.path.dirname(self.path)
            if folders.by_parent.get(parent) is self:
                del folders.by_parent[parent]
                os.close(self.lock)


class _HostFolders:
    """Those of this process. The lock is held while one is made, not while anything is waited for."""

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


def _locked(path: str) -> int:
    """A descriptor of the folder, locked as being in use; -1 when it is there no more, or is going away."""
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
    """Remove the folders of hosts that died without doing it."""
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
    """What cannot be removed at once is left to a later host."""
    folders = _all_folders.get()
    with folders.lock:
        left = list(folders.by_parent.values())
        folders.by_parent.clear()
    AT_EXIT.resume()
    for folder in left:
        remove_tree(folder.path, budget=AT_EXIT)
        os.close(folder.lock)


def _links(path: str) -> Iterator[str]:
    """Those on the way of an absolute path, as far as they are in its own name."""
    for end, letter in enumerate(path + os.sep):
        if letter == os.sep and end and os.path.islink(path[:end]):
            folder, name = os.path.split(path[:end])
            yield os.path.join(os.path.realpath(folder), name)


def _editable(dependencies: Iterable[str]) -> list[str]:
    """The folders of dependencies that are installed where they are."""
    paths = (text.removeprefix("-e ").split("[")[0] for text in dependencies if text.startswith("-e "))
    return [path for path in paths if os.path.isabs(path)]


def _devices(devices: Iterable[str]) -> list[str]:
    """The device files; ``gpu`` stands for those of graphics processors that there are."""
    found: list[str] = []
    for device in devices:
        if device == "gpu":
            found += [path for name in _GPU for path in sorted(glob.glob(os.path.join(_DEV, name)))]
        else:
            found.append(device)
    return found
