"""The program of a zygote: it loads what extensions share, and forks their processes.

A forked process must be like an executed one. A zygote is started with ``-S``, so it has only the standard
library on its path. After the fork the child does what an interpreter does at start: `site` adds the
extension's site-packages and runs its ``.pth`` files.
"""

from __future__ import annotations

import gc
import json
import os
import site
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from .._core import serve_forks, share_memory, site_loaded
from .prewarm import import_shared, prewarm

__all__ = ["serve"]


def serve(packages: Sequence[str], path: Iterable[str], idle: float, share: bool) -> dict[str, Any]:
    """Load the packages from the host's path, and fork when the host requests it.

    Return in each child, with the arguments of its program. The zygote itself ends with its host, or when it
    has had no child for `idle` seconds. `share`: children free the copies of pages that they did not change.
    """
    import_shared(packages, path)
    report = json.dumps({"modules": _foreign_modules()}).encode()
    prewarm(gaps=(128 if packages else 16) << 10)
    if share:
        share_memory()
    request = serve_forks(int(os.environ["PISO_FD"]), report, idle)
    if request is None:
        os._exit(0)
    return _become_child(*request)


# ---- before the fork ----


def _foreign_modules() -> dict[str, str]:
    """Return the files of top-level modules that are not of the standard library or of this package."""
    files: dict[str, str] = {}
    for name in {module.partition(".")[0] for module in sys.modules}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name not in sys.stdlib_module_names and name not in ("pyisolate", "__main__"):
            files[name] = os.path.abspath(file)
    return files


# ---- after the fork, in the child ----


def _become_child(argv: list[str], environment: list[str]) -> dict[str, Any]:
    """Set up the process as if `argv` had been executed in this environment. Return its last argument."""
    gc.enable()
    _set_environment(environment)
    sys.orig_argv[:] = argv
    sys.argv[:] = ["-c"]
    sys.executable = argv[0]
    _initialize_site(argv[0], os.environ.get("PYTHONPATH", ""))
    _reseed()
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


def _initialize_site(python: str, python_path: str) -> None:
    """Run `site` as at the start of the interpreter."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    if sys.version_info >= (3, 14) and os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        sys.prefix = sys.exec_prefix = prefix  # before 3.14 `site` does it
    sys.path[:0] = [entry for entry in python_path.split(os.pathsep) if entry]
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    site.main()
    site_loaded()


def _reseed() -> None:
    """Seed generators again that were seeded in the zygote. `random` does so itself after a fork."""
    loaded = sys.modules.get
    if numpy_random := loaded("numpy.random"):
        numpy_random.seed()
    if torch := loaded("torch"):
        torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
    if process := loaded("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
