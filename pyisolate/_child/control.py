"""The control object of an extension's process. The host calls it to load the extension and to stop it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import subprocess
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from .._core import cuda_events, limit_shared_memory, settle_memory
from .._rpc import gpus
from .._rpc.class_references import Reference, main_failure, resolve, set_host_main
from .._rpc.connection import Connection, Control
from .._rpc.loader import Loader, await_result, module_name
from .._rpc.loading import LoadReport, LoadRequest
from .._rpc.registry import TypeReference, register_host_types
from ..shared import ExtensionLocal
from .log_handler import HostHandler
from .names import names_of
from .program_hints import end_workers_without_sockets
from .sandbox_hints import note_hook
from .threads import run_in_threads

__all__ = ["ChildControl"]

SETTLE_AFTER = 0.2
"""Seconds between the load and the release of unchanged memory. Most first calls have finished by then."""


class ChildControl(Control):
    """The extension's object 0. Its caller is the host."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._extension: ExtensionLocal | None = None
        self._stopped: Future[None] | None = None

    async def load(self, request: LoadRequest) -> LoadReport:
        """Load the extension. Return when its `on_module_loaded` has finished."""
        set_host_main(request["main"])
        try:
            return await self._load(request)
        except (Exception, SystemExit) as error:
            if (failure := main_failure(error)) is None:
                raise
            raise failure from error

    async def _load(self, request: LoadRequest) -> LoadReport:
        logging.getLogger().setLevel(request["log_level"])
        register_host_types(request["types"])
        self._connection.session.generation = request["generation"]
        self._connection.session.refuse_subclasses = request["refuse_subclasses"]
        if request["threads"] is not None:
            run_in_threads(self._connection.session, request["threads"])
        if request["shared_memory"] is not None:
            limit_shared_memory(request["shared_memory"])
        if hasattr(BaseException, "add_note"):
            self._connection.session.on_error(note_hook(request["sandbox"], request["may_leave_group"]))
        if request["sandbox"] is not None:
            _start_without_proc()
            if not request["sandbox"].get("local_sockets"):
                end_workers_without_sockets()
        host_torch = request["share_torch"]
        if host_torch is not None:
            check_torch(host_torch)
        report = gpus.make_report(request["share_cuda"])
        self._connection.session.share(
            torch=host_torch is not None, numpy=request["share_numpy"], cuda=gpus.shared_devices(report)
        )
        cuda_events(self._connection.session, request["cuda_events"])
        self._connection.add_remote_ids(request["offered"])
        _export_module(request["module_path"])
        loader = Loader(
            _class_of_host(request["extension_type"], "the extension type of the host's ExtensionManager"),
            request["module_path"],
            [
                _class_of_host(api, "which the extension's configuration lists under 'apis'")
                for api in request["apis"]
            ],
            self._connection,
        )
        self._extension = await loader.load()
        asyncio.get_running_loop().call_later(SETTLE_AFTER, settle_memory)
        return {"devices": report, "names": names_of(self._extension)}

    def has(self, name: str) -> bool:
        """Return whether the extension has an attribute with this name now."""
        return hasattr(self._extension, name)

    def adopt(self, types: list[TypeReference]) -> None:
        """Register classes of the host."""
        register_host_types(types)

    def ping(self) -> None:
        """Do nothing. A reply shows that the process handles calls."""

    async def shut_down(self) -> None:
        """Call the extension's `stop` once. All callers wait for that call, and none can cancel it."""
        if self._stopped is None:
            self._stopped = Future()
            self._stopped.set_running_or_notify_cancel()
            self._stopping = asyncio.get_running_loop().create_task(self._stop(self._stopped))
        await asyncio.wrap_future(self._stopped)

    async def _stop(self, done: Future[None]) -> None:
        try:
            stop = getattr(self._extension, "stop", None)
            if stop is not None:
                await await_result(stop())
            self._report_losses()
        except BaseException as error:
            self._report_losses()
            done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        else:
            done.set_result(None)

    def _report_losses(self) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, HostHandler):
                handler.report_losses()


def _class_of_host(reference: Reference, use: str) -> Any:
    """Import a class of the host. `use`: what the class is for, which the ImportError says."""
    try:
        return resolve(reference)
    except Exception as error:
        raise ImportError(
            f"{reference['module']}.{reference['qualname']}, {use}, could not be imported in the extension's "
            f"process: {type(error).__name__}: {error}. Define it at the top level of a module that imports "
            "only what is installed for the host or among the extension's 'dependencies'",
            name=reference["module"],
            path=reference["file"],
        ) from error


def _export_module(module_path: str) -> None:
    """Let interpreters that the extension starts, such as workers of `multiprocessing`, find its module."""
    if known := os.environ.get("PYISOLATE_PATH"):
        module = [module_name(module_path), os.path.join(module_path, "__init__.py")]
        os.environ["PYISOLATE_PATH"] = json.dumps({**json.loads(known), "module": module})


def _start_without_proc() -> None:
    """Make `subprocess` close file descriptors itself, by a setting that its documentation offers.

    From Python 3.13 on, posix_spawn() closes them. Without close_range, the C library must then read
    /proc/self/fd in the new process. The sandbox refuses that if the extension has no /proc of its own.
    """
    subprocess._USE_POSIX_SPAWN = False  # type: ignore[misc]


def check_torch(host_file: str) -> None:
    """Raise ImportError if this process would import another torch than the host's."""
    spec = importlib.util.find_spec("torch")
    here = spec.origin if spec else None
    same = False
    if here is not None:
        with suppress(OSError):  # the sandbox hides the host's file, so it is another
            same = os.path.samefile(here, host_file)
    if not same:
        raise ImportError(
            f"share_torch: the extension would import torch from {here}, but the host has it in {host_file}; "
            "remove torch from the extension's environment, or set share_torch to False",
            name="torch",
        )
