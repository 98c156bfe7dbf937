"""A zygote's process: it loads what extensions share, and becomes an extension's process by forking.

A forked process has to be what a started one is. Started with ``-S``, the zygote has the standard library
alone on its path; after the fork the child does what an interpreter does at start: `site` reads the
extension's site-packages and runs its ``.pth`` files.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import site
import sys
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from .._child import main as child
from .._core import serve_forks, share_memory, site_loaded

__all__ = ["serve"]


_COMMON = ("dataclasses", "pathlib", "platform")
"""Of the standard library, what many extensions and packages import."""
_kept: list[object] = []
"""Never freed."""


def serve(packages: Sequence[str], path: Iterable[str], idle: float, share: bool) -> dict[str, Any]:
    """Load the packages from the host's path and fork as the host asks.

    Returns in each child, with the arguments of its program. The zygote itself ends with its host, or when it
    has had no child for `idle` seconds. `share`: children give memory back that they did not change.
    """
    _load(packages, path)
    report = json.dumps({"modules": _foreign_modules()}).encode()
    _warm_up(gaps=(128 if packages else 16) << 10)
    if share:
        share_memory()
    request = serve_forks(int(os.environ["PISO_FD"]), report, idle)
    if request is None:
        os._exit(0)
    return _become(*request)


# ---- before the fork ----


def _load(packages: Sequence[str], path: Iterable[str]) -> None:
    for module in _COMMON:
        importlib.import_module(module)
    own = list(sys.path)
    sys.path += [entry for entry in path if entry not in own]
    try:
        for package in packages:
            importlib.import_module(package)
    finally:
        sys.path[:] = own
        for entry in set(sys.path_importer_cache).difference(own):
            del sys.path_importer_cache[entry]
    # What they want finalized at exit is this process's, which is killed; children are not to do it.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def _warm_up(gaps: int) -> None:
    """Leave children little to write to: each page that they write to is copied for them.

    `gaps`: how many bytes between objects of each size to take up.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()  # who replaces an entry lets go of what was there
    asyncio.run(child.rehearse())
    _stop_threads()
    _fill_gaps(gaps)
    gc.freeze()


def _fill_gaps(gaps: int) -> None:
    """Take up what is free between small objects, so that those of children lie together, on new pages."""
    _kept.append([object() for _ in range(gaps // 16)])
    _kept.append([float(number) for number in range(gaps // 32)])
    for size in range(48, 513, 16):
        _kept.append([bytes(size - sys.getsizeof(b"")) for _ in range(gaps // size)])


def _stop_threads() -> None:
    """Fork for nothing: libraries that fork safely, such as OpenBLAS, stop their threads before."""
    if len(os.listdir("/proc/self/task")) == 1:
        return
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _foreign_modules() -> dict[str, str]:
    """Files of the top-level modules that are neither the standard library's nor ours."""
    files: dict[str, str] = {}
    for name in {module.partition(".")[0] for module in sys.modules}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name not in sys.stdlib_module_names and name not in ("pyisolate", "__main__"):
            files[name] = os.path.abspath(file)
    return files


# ---- after it ----


def _become(argv: list[str], environment: list[str]) -> dict[str, Any]:
    """Be the process that `argv` would have started in this environment; returns its last argument."""
    gc.enable()
    _set_environment(environment)
    sys.orig_argv[:] = argv
    sys.argv[:] = ["-c"]
    sys.executable = argv[0]
    _enter(argv[0], os.environ.get("PYTHONPATH", ""))
    _seed()
    stdout: Any = sys.stdout
    if stdout is not None and stdout.line_buffering != os.isatty(1):
        stdout.reconfigure(line_buffering=os.isatty(1))
    arguments: dict[str, Any] = json.loads(argv[-1])
    return arguments


def _set_environment(environment: Iterable[str]) -> None:
    new = dict(variable.split("=", 1) for variable in environment)
    old = dict(os.environ)
    for name in old.keys() - new.keys():
        del os.environ[name]
    for name, value in new.items():
        if old.get(name) != value:
            os.environ[name] = value
    if old.get("TZ") != new.get("TZ"):
        time.tzset()


def _enter(python: str, python_path: str) -> None:
    """Have `site` do what it does when this interpreter starts."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    if sys.version_info >= (3, 14) and os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        sys.prefix = sys.exec_prefix = prefix  # before 3.14 `site` does it
    sys.path[:0] = [entry for entry in python_path.split(os.pathsep) if entry]
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    site.main()
    site_loaded()


def _seed() -> None:
    """New seeds for generators that were seeded in the zygote; `random` seeds its own after a fork."""
    loaded = sys.modules.get
    if numpy_random := loaded("numpy.random"):
        numpy_random.seed()
    if torch := loaded("torch"):
        torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
    if process := loaded("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
