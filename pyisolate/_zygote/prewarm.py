"""Work that a zygote does once, so that its children need not do it: imports, and a first load and call.

Each page that a child writes to is copied. Objects to which children write are kept apart from the others.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import sys
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .._child.main import offer
from .._core import Session
from .._rpc.class_references import make_reference
from .._rpc.connection import CONTROL
from .._rpc.loader import module_name
from .._rpc.loading import LoadRequest
from .._rpc.registry import REGISTRY
from ..shared import ExtensionBase

__all__ = ["import_shared", "prewarm"]

_COMMON = ("dataclasses", "pathlib", "platform")
"""Modules of the standard library that many extensions and packages import."""
_kept: list[object] = []
"""Objects that are never freed."""


def import_shared(packages: Sequence[str], path: Iterable[str]) -> None:
    """Import what extensions share, from the host's path."""
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
    # Finalizers of the packages belong to this process, which is killed. Children must not run them at exit.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def prewarm(gaps: int) -> None:
    """Reduce the number of pages that children write to, because each of these is copied.

    `gaps`: how many bytes of free memory between objects of each size to fill.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()  # a child that replaces an entry would write to the reference count of the old object
    asyncio.run(_warm_up())
    _stop_threads()
    _fill_gaps(gaps)
    gc.freeze()


def _fill_gaps(gaps: int) -> None:
    """Fill the free memory between small objects, so that objects of children are on new pages."""
    _kept.append([object() for _ in range(gaps // 16)])
    _kept.append([float(number) for number in range(gaps // 32)])
    for size in range(48, 513, 16):
        _kept.append([bytes(size - sys.getsizeof(b"")) for _ in range(gaps // size)])


def _stop_threads() -> None:
    """Fork once, because libraries that support a fork, such as OpenBLAS, stop their threads before it."""
    if len(os.listdir("/proc/self/task")) == 1:
        return
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


async def _warm_up() -> None:
    """Load and stop an extension before the fork, with both ends of a session in this process."""
    host, session = Session.pair(REGISTRY)
    handler = offer(session)
    served = session.serve()
    torch = sys.modules.get("torch")
    request: LoadRequest = {**_REQUEST, "share_torch": torch.__file__ if torch else None}
    await host.method(CONTROL, "load")(request)
    with suppress(LookupError):
        await host.method(CONTROL, "resolve")("nothing")
    await host.method(CONTROL, "shut_down")()
    host.close()
    await served
    logging.getLogger().removeHandler(handler)
    del sys.modules[module_name(_EXTENSION_PATH)]


_EXTENSION_PATH = os.path.join(os.path.dirname(__file__), "prewarm_extension")
_REQUEST = LoadRequest(
    module_path=_EXTENSION_PATH,
    extension_type=make_reference(ExtensionBase),
    apis=[],
    offered={},
    types=[],
    share_numpy=False,
    share_torch=None,
    log_level=logging.getLogger().level,
    share_cuda=None,
    cuda_events=False,
    shared_memory=None,
    sandbox=None,
    may_leave_group=True,
    threads=None,
    generation=1,
    refuse_subclasses=False,
    main=None,
)
