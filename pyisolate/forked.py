"""A zygote's process: it loads what extensions share, and becomes an extension's process by forking.

A forked process has to be what a started one is. Started with ``-S``, the zygote has the standard library
alone on its path; after the fork the child enters its environment as an interpreter does at start: `site`
reads the extension's site-packages and runs its ``.pth`` files there, never here.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import json
import os
import random
import re
import site
import sys
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from . import child
from ._core import fill_heap, serve_forks, share_memory, site_loaded

__all__ = ["serve"]


_filling: list[object] = []
"""Never freed."""


def serve(packages: Sequence[str], path: Iterable[str]) -> dict[str, Any] | None:
    """Load the packages from the host's path and fork as the host asks.

    Returns in each child, with the arguments of its program, and in the zygote when the host has gone: None.
    """
    _load(packages, path)
    _rehearse()
    report = json.dumps({"modules": _foreign_modules()}).encode()
    gc.disable()  # a collection would write to every object, in every child anew
    _filling.append(_fill_gaps())
    gc.freeze()
    share_memory()
    request = serve_forks(int(os.environ["PISO_FD"]), report)
    if request is None:
        return None
    gc.enable()
    return _become(*request)


# ---- before the fork ----


def _load(packages: Sequence[str], path: Iterable[str]) -> None:
    own = list(sys.path)
    sys.path += [entry for entry in path if entry not in own]
    try:
        for package in packages:
            importlib.import_module(package)
    finally:
        sys.path[:] = own
        for entry in set(sys.path_importer_cache).difference(own):
            del sys.path_importer_cache[entry]


def _rehearse() -> None:
    """Do once what every child does, so that what it fills in on first use is there, and shared."""
    asyncio.run(child.rehearse())
    importlib.util.find_spec("pyisolate_looks_through_the_path")
    site.setquit()
    site.setcopyright()
    site.sethelper()
    # Libraries with threads stop them before a fork: those of OpenBLAS are gone after this one, for good.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    # What packages want finalized at exit is this process's, which is killed; children are not to do it.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False
    gc.collect()


def _fill_gaps() -> list[object]:
    """What keeps the free blocks of pages that hold something already.

    Each page that a child writes to is copied for it: what it allocates is to lie together on new ones.
    """
    fill_heap()
    filling: list[object] = []
    for size, free in _free_blocks():
        if size < sys.getsizeof(b""):
            filling.append([object() if size <= 16 else float(n) for n in range(free)])
        else:
            filling.append([bytes(size - sys.getsizeof(b"")) for _ in range(free)])
    return filling


def _free_blocks() -> list[tuple[int, int]]:
    """(size, count) of the free blocks of the interpreter's allocator; it tells stderr only."""
    stderr = os.dup(2)
    with open(os.memfd_create("debugmallocstats"), "r+b") as file:
        try:
            os.dup2(file.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        table = re.findall(rb"^ +\d+ +(\d+) +\d+ +\d+ +(\d+)$", file.read(), re.MULTILINE)
    return [(int(size), int(free)) for size, free in table]


def _foreign_modules() -> dict[str, str]:
    """Files of the top-level modules that are neither the standard library's nor ours."""
    files: dict[str, str] = {}
    for name in {module.partition(".")[0] for module in sys.modules}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name not in sys.stdlib_module_names and name not in (__package__, "__main__"):
            files[name] = os.path.abspath(file)
    return files


# ---- after it ----


def _become(argv: list[str], environment: list[str]) -> dict[str, Any]:
    """Be the process that `argv` would have started in this environment; returns its last argument."""
    _set_environment(environment)
    sys.orig_argv[:] = argv
    sys.argv[:] = ["-c"]
    sys.executable = argv[0]
    _enter(argv[0])
    _seed()
    stdout: Any = sys.stdout
    if stdout is not None and stdout.line_buffering != os.isatty(1):
        stdout.reconfigure(line_buffering=os.isatty(1))
    arguments: dict[str, Any] = json.loads(argv[-1])
    return arguments


def _set_environment(environment: Iterable[str]) -> None:
    new = dict(variable.split("=", 1) for variable in environment)
    old = dict(os.environ)
    if old == new:
        return
    for name in old.keys() - new.keys():
        del os.environ[name]
    for name, value in new.items():
        if old.get(name) != value:
            os.environ[name] = value
    if old.get("TZ") != new.get("TZ"):
        time.tzset()


def _enter(python: str) -> None:
    """Have `site` do what it does when this interpreter starts."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        sys.prefix = sys.exec_prefix = prefix
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    site.main()
    site_loaded()


def _seed() -> None:
    """New seeds for generators that have been seeded in the zygote; `random` does it itself at a fork."""
    random.seed()
    loaded = sys.modules.get
    if numpy_random := loaded("numpy.random"):
        numpy_random.seed()
    if torch := loaded("torch"):
        torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
    if process := loaded("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
