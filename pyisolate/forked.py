"""A zygote's process: it loads what extensions share, and becomes an extension's process by forking.

A forked process has to be what a started one is. Started with ``-S``, the zygote has the standard library
alone on its path; after the fork the child enters its environment as an interpreter does at start: `site`
reads the extension's site-packages and runs its ``.pth`` files there. A zygote for extensions that have no
environment of their own does that before, once for all of them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import sys
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from ._core import serve_forks, share_memory
from .entering import Entry, enter, enter_for_children, find_user_site
from .warming import warm_up

__all__ = ["serve"]


_kept: list[object] = []
"""What a child has no use for. To free something is to write to it."""


def serve(packages: Sequence[str], path: Iterable[str], entry: Entry | None) -> dict[str, Any] | None:
    """Load the packages from the host's path and fork as the host asks.

    With `entry` what its children would do to enter their environment is done here.
    Returns in each child, with the arguments of its program, and in the zygote when the host has gone: None.
    """
    gc.disable()  # it would look at what is loaded, which stays, again and again
    _load(packages, path)
    report: dict[str, Any] = {"modules": _foreign_modules()}
    if entry is not None:
        report["entered"] = enter_for_children(**entry)
    encoded = json.dumps(report).encode()
    if entry is not None and report["entered"]["obstacle"]:
        with suppress(OSError):  # threads
            serve_forks(int(os.environ["PISO_FD"]), encoded)
        os._exit(0)  # the host has no use for it
    _kept.extend([report, encoded, list(sys.orig_argv), sys.executable, int(os.environ["PISO_FD"])])
    warm_up(_rehearse)
    share_memory()
    request = serve_forks(int(os.environ["PISO_FD"]), encoded)
    if request is None:
        return None
    gc.enable()
    return _become(*request, entry is not None)


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
    # What they want finalized at exit is this process's, which is killed; children are not to do it.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def _rehearse() -> None:
    """Become a child, in a process that ends soon."""
    variables = [f"{name}={value}" for name, value in {**os.environ, "PYISOLATE_CHILD": "0"}.items()]
    _become([sys.executable, "{}"], variables, has_entered=True)
    os.environ.pop("PYISOLATE_CHILD")


def _foreign_modules() -> dict[str, str]:
    """Files of the top-level modules that are neither the standard library's nor ours."""
    files: dict[str, str] = {}
    for name in {module.partition(".")[0] for module in sys.modules}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name not in sys.stdlib_module_names and name not in (__package__, "__main__"):
            files[name] = os.path.abspath(file)
    return files


# ---- after it ----


def _become(argv: list[str], environment: list[str], has_entered: bool) -> dict[str, Any]:
    """Be the process that `argv` would have started in this environment; returns its last argument."""
    _set_environment(environment)
    sys.orig_argv[:] = argv
    sys.argv[:] = ["-c"]
    sys.executable = argv[0]
    if has_entered:
        find_user_site()
    else:
        enter(argv[0], os.environ.get("PYTHONPATH", ""))
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
