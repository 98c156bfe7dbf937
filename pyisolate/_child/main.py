"""The extension's side: what runs in its process from the start to the end."""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import importlib.util
import io
import json
import logging
import os
import sys
import threading
import traceback
from concurrent.futures import Future
from contextlib import suppress
from typing import NoReturn, TypedDict

from .._core import Session, cuda_events, limit_shared_memory, settle_memory
from .._host.names import NamesReport, names_of
from .._host.singleton_check import tell_host
from .._rpc import gpus
from .._rpc.class_references import Reference, blame_main, refer, resolve, set_host_main
from .._rpc.connection import CONTROL, Connection, Control
from .._rpc.loader import Loader, module_name, settle
from .._rpc.registry import REGISTRY, adopt
from ..config import SandboxConfig
from ..shared import ExtensionBase, ExtensionLocal
from .log_handler import HostHandler
from .program_hints import end_mute_workers, refuse_breakpoints
from .sandbox_hints import noter

__all__ = ["LoadRequest", "main", "rehearse"]


SETTLE_AFTER = 0.2
"""Seconds after the extension was loaded; its first calls are then over, mostly."""


class LoadRequest(TypedDict):
    """What the host asks an extension's process to load."""

    module_path: str
    extension_type: Reference
    apis: list[Reference]
    offered: dict[str, int]
    """Names and numbers of the host's objects."""
    types: list[Reference]
    share_numpy: bool
    share_torch: str | None
    """The file of the host's torch, if tensors are shared."""
    log_level: int
    """Records below it would not be shown."""
    share_cuda: list[bytes] | None
    """UUIDs of the host's GPUs, if memory of GPUs is shared."""
    cuda_events: bool
    """Whether events of GPUs can be shared, too."""
    shared_memory: int | None
    """The limit of this process's shared memory, in bytes."""
    sandbox: SandboxConfig | None
    """What it is permitted; None: it is not confined."""
    refuse_subclasses: bool
    """Whether values of subclasses are refused instead of sent as their base."""
    main: str | None
    """The file of the host's program."""


class LoadReport(TypedDict):
    """What the extension's process tells of what it has loaded."""

    devices: gpus.Report
    names: NamesReport


class ChildControl(Control):
    """Object 0 of the extension's side. Its callers are the host."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._extension: ExtensionLocal | None = None
        self._stopped: Future[None] | None = None

    async def load(self, request: LoadRequest) -> LoadReport:
        """Load the extension; returns when its `on_module_loaded` has finished."""
        set_host_main(request["main"])
        try:
            return await self._load(request)
        except (Exception, SystemExit) as error:
            if (blame := blame_main(error)) is None:
                raise
            raise blame from error

    async def _load(self, request: LoadRequest) -> LoadReport:
        logging.getLogger().setLevel(request["log_level"])
        adopt(request["types"])
        self._connection.session.refuse_subclasses = request["refuse_subclasses"]
        if request["shared_memory"] is not None:
            limit_shared_memory(request["shared_memory"])
        if hasattr(BaseException, "add_note"):
            self._connection.session.on_error(noter(request["sandbox"]))
        if request["sandbox"] is not None and not request["sandbox"].get("local_sockets"):
            end_mute_workers()
        host_torch = request["share_torch"]
        if host_torch is not None:
            check_torch(host_torch)
        report = gpus.report(request["share_cuda"])
        self._connection.session.share(
            torch=host_torch is not None, numpy=request["share_numpy"], cuda=gpus.to_send(report)
        )
        cuda_events(self._connection.session, request["cuda_events"])
        self._connection.learn(request["offered"])
        _tell_programs(request["module_path"])
        loader = Loader(
            resolve(request["extension_type"]),
            request["module_path"],
            [resolve(api) for api in request["apis"]],
            self._connection,
        )
        self._extension = await loader.load()
        asyncio.get_running_loop().call_later(SETTLE_AFTER, settle_memory)
        return {"devices": report, "names": names_of(self._extension)}

    def has(self, name: str) -> bool:
        """Whether the extension has an attribute of this name by now."""
        return hasattr(self._extension, name)

    def adopt(self, types: list[Reference]) -> None:
        """Register classes of the host."""
        adopt(types)

    def ping(self) -> None:
        """Called to see that it can be."""

    async def shut_down(self) -> None:
        """Let the extension clean up, once: all callers wait for the same, and none can cancel it."""
        if self._stopped is None:
            self._stopped = Future()
            self._stopped.set_running_or_notify_cancel()
            self._stopping = asyncio.get_running_loop().create_task(self._stop(self._stopped))
        await asyncio.wrap_future(self._stopped)

    async def _stop(self, done: Future[None]) -> None:
        try:
            stop = getattr(self._extension, "stop", None)
            if stop is not None:
                await settle(stop())
            self._tell_losses()
        except BaseException as error:
            self._tell_losses()
            done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        else:
            done.set_result(None)

    def _tell_losses(self) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, HostHandler):
                handler.tell_losses()


def _tell_programs(module_path: str) -> None:
    """Have Pythons that the extension starts, such as workers of `multiprocessing`, find its module."""
    if known := os.environ.get("PYISOLATE_PATH"):
        module = [module_name(module_path), os.path.join(module_path, "__init__.py")]
        os.environ["PYISOLATE_PATH"] = json.dumps({**json.loads(known), "module": module})


def check_torch(host_file: str) -> None:
    """Raise ImportError when this process would import another torch than the host's."""
    spec = importlib.util.find_spec("torch")
    here = spec.origin if spec else None
    if here is None or not os.path.samefile(here, host_file):
        raise ImportError(
            f"share_torch: the extension would import torch from {here}, but the host has it in {host_file}; "
            "remove torch from the extension's environment, or set share_torch to False",
            name="torch",
        )


async def rehearse() -> None:
    """Do what `main` does, in a process that will be forked, with two ends of a session in it."""
    host, session = Session.pair(REGISTRY)
    handler = _offer(session)
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


_REHEARSED_PATH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "_zygote", "prewarm_extension")
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
    refuse_subclasses=False,
    main=None,
)


def _leave_copy(error: BaseException | None) -> NoReturn:
    """End a process that a handler of the extension has forked, as its program would end.

    Nothing of the extension's goes on there: the request that the handler answers, the event loop and its
    tasks are the extension's.
    """
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = _status(error.code)
        elif error is not None:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _leave(status)


def _offer(session: Session) -> logging.Handler:
    session.register(CONTROL, ChildControl(Connection(session)))
    handler = HostHandler(session, CONTROL)
    logging.getLogger().addHandler(handler)
    return handler


async def _serve() -> None:
    session = Session.attach(int(os.environ.pop("PISO_FD")), REGISTRY)
    session.on_copy(_leave_copy)
    _offer(session)
    tell_host(session)
    await session.serve()


def main() -> None:
    """Answer the host's calls until it ends the session. Does not return: it ends the process."""
    # A crash tells where: of its thread alone, since the last lines are what the host keeps.
    faulthandler.enable(2, all_threads=False)
    refuse_breakpoints()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe, of which the host wants each line at once
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    status = 1
    try:
        asyncio.run(_serve())
        status = 0
    except SystemExit as end:
        status = _status(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _status(code: object) -> int:
    """What a program that raises SystemExit(code) returns."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _leave(status: int) -> NoReturn:
    """End the process as the interpreter does, except that its objects are not taken apart one by one.

    That would take longer than most extensions take to start, and in a forked process copy what it shares.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status)
