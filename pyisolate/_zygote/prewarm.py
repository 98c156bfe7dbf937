"""What a zygote does once, so that none of its children has to: imports, and a first load and call.

Each page that a child writes to is copied for it. So objects are grouped by whether children write to them.
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
from .._rpc.class_references import refer
from .._rpc.connection import CONTROL
from .._rpc.loader import module_name
from .._rpc.loading import LoadRequest
from .._rpc.registry import REGISTRY
from ..shared import ExtensionBase

__all__ = ["import_shared", "prewarm"]

_COMMON = ("dataclasses", "pathlib", "platform")
"""Of the standard library, what many extensions and packages import."""
_kept: list[object] = []
"""Never freed."""


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
    # What they want finalized at exit is this process's, which is killed; children are not to do it.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def prewarm(gaps: int) -> None:
    """Leave children little to write to: each page that they write to is copied for them.

    `gaps`: how many bytes between objects of each size to take up.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()  # who replaces an entry lets go of what was there
    asyncio.run(_rehearse())
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


async def _rehearse() -> None:
    """Do what an extension's process does, before the fork, with both ends of a session in this one."""
    host, session = Session.pair(REGISTRY)
    handler = offer(session)
    served = session.serve()
    torch = sys.modules.get("torch")
    request: LoadRequest = {**_REHEARSED, "share_torch": torch.__file__ if torch else None}
    await host.method(CONTROL, "load")(request)
    with suppress(LookupError):
        await host.method(CONTROL, "resolve")("nothing")
    await host.method(CONTROL, "shut_down")()
    host.close()
    await served
    logging.getLogger().removeHandler(handler)
    del sys.modules[module_name(_REHEARSED_PATH)]


_REHEARSED_PATH = os.path.join(os.path.dirname(__file__), "prewarm_extension")
_REHEARSED = LoadRequest(
    module_path=_REHEARSED_PATH,
    extension_type=refer(ExtensionBase),
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
    refuse_subclasses=False,
    main=None,
)
