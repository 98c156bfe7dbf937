"""The C extension: sessions between two processes, calls over them, and the conversion of values."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

_T = TypeVar("_T")

__version__: str

class PyIsolateError(Exception):
    """Base class of the errors of this package."""

class RemoteError(PyIsolateError):
    """An exception of a class that this side has not registered was raised on the other side.

    Each arrives as an instance of a subclass made with the remote class's name.
    """

    type_name: str
    """Module and qualified name of the remote class, for example ``"my_plugin.errors.BadImage"``."""

class ExtensionDied(PyIsolateError, ConnectionError):
    """The process at the other end has ended."""

    name: str
    pid: int | None
    returncode: int | None
    """Exit status, or minus the signal's number, or None when it is not known."""
    stderr: str
    """The last lines that it wrote to stderr."""

class ExtensionHung(ExtensionDied):
    """The process did not answer its watchdog in time and was ended."""

class ExtensionStopped(PyIsolateError):
    """The session was closed on this side."""

class ProtocolError(PyIsolateError):
    """The other side sent something malformed; the session has been dropped."""

class ForkedProcessError(PyIsolateError, RuntimeError):
    """A session was used in a process forked from the one that owns it."""

class SandboxError(PyIsolateError):
    """An extension cannot be confined here as its configuration asks; the message says what is missing."""

class CallTimeout(PyIsolateError, TimeoutError):
    """A call did not finish within its time limit."""

class Registry:
    """The classes that may arrive: enums, dataclasses, named tuples, exceptions."""

    def __init__(self) -> None: ...
    def register(self, cls: type, name: str | None = None, replace: bool = False, /) -> str:
        """Allow `cls` under `name` (default: ``module:qualname``); returns the name.

        With `replace` the name may be that of another class: what arrives is of `cls` from now on, and
        instances of both can be sent.

        Raises TypeError when `cls` is none of Enum, dataclass, named tuple, exception, and ValueError when
        the name is taken by another class.
        """
    def names(self) -> list[str]: ...

class Call(Coroutine[Any, Any, _T], Generic[_T]):
    """A call on its way: sent when it was made, its result is taken by `await`."""

    def send(self, value: Any, /) -> Any: ...
    def throw(self, typ: Any, val: Any = ..., tb: Any = ..., /) -> Any: ...
    def close(self) -> None: ...
    def cancel(self, msg: object = None) -> bool:
        """Ask the other side to cancel the handler; a later await raises CancelledError."""
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, _T]: ...

class Method:
    """A method of an object on the other side, bound to a session."""

    name: str
    session: Session
    timeout: float | None
    sync: bool
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """With sync: call, wait without holding the GIL, return the result. Else: send, return a Call."""

class Session:
    """One end of a connection between the host and an extension's process."""

    name: str
    pid: int | None
    """Process id of the child; None in the child and for pairs."""
    value_limit: int
    refuse_subclasses: bool
    """Bytes of memory that what one message holds may take here, text and buffers not counted. Above:
    MemoryError. In a host at first 1 GiB, or four times its peer's limit of shared memory if that is less."""

    @staticmethod
    def spawn(
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        name: str,
        registry: Registry,
        cwd: str | None = None,
        arena_size: int = 0,
        echo_stdout: bool = True,
        echo_stderr: bool = True,
        zygote: Zygote | None = None,
        max_requests: int = 0,
        sandbox: dict[str, Any] | None = None,
        report: list[tuple[str, bool, str]] | None = None,
        execute: bool = False,
    ) -> Session:
        """Start a process with a channel to it, whose descriptor PISO_FD names. OSError if it cannot run.

        A zygote forks it instead: ExtensionDied if the zygote has ended, OSError (EBUSY) if it has threads.
        With `execute` the zygote's child runs the program, so that the zygote is its parent.
        `max_requests`: of the child that may be unanswered at once, at most 1 << 20; 0: 4096.
        `sandbox` has the fields of piso_sandbox in piso.h; SandboxError if it cannot be kept. (name, active,
        detail) of each layer are appended to `report`, also then.
        """
    @staticmethod
    def attach(fd: int, registry: Registry) -> Session:
        """The child's end, from the descriptor in PISO_FD."""
    @staticmethod
    def pair(registry: Registry, registry2: Registry | None = None) -> tuple[Session, Session]:
        """Both ends in one process, for tests."""
    def handshake(self, timeout: float | None = None) -> None:
        """Wait (without the GIL) until the child has attached: TimeoutError, ExtensionDied."""
    def register(self, object_id: int, obj: object) -> None:
        """Answer the peer's calls to `object_id` with the methods of `obj` that do not start with ``_``."""
    def unregister(self, object_id: int) -> None: ...
    def method(
        self, object_id: int, name: str, *, sync: bool = False, timeout: float | None = None
    ) -> Method: ...
    def serve(self) -> Awaitable[None]:
        """Answer calls on the running loop; done when the session has ended. For the child's main task."""
    def close(self) -> None:
        """Tell the peer, fail pending calls with ExtensionStopped. The process is left alone."""
    def closed(self) -> bool:
        """Whether the session has ended, for whatever reason."""
    def kill(self, signal: int = 9) -> None:
        """Signal the child's process group; nothing happens when it has ended."""
    def wait(self, timeout: float | None = None) -> int | None:
        """The child's exit status (minus the signal's number) or None when `timeout` seconds passed first."""
    def stderr(self) -> str:
        """The last lines the child wrote to stderr."""
    def follow_output(self, cookie: int, /) -> None:
        """Have `output_next` name this session by a cookie, once now and whenever its child has written
        something or has ended; 0: not any more."""
    def read_output(self, stream: int, /) -> tuple[bytes, int]:
        """What the child wrote to stdout (1) or stderr (2), at most 16 KiB, and how many bytes after it were
        lost.

        After `output_next` has named it read both until nothing comes.
        """
    def echo_dropped(self, stream: int, /) -> int:
        """How many bytes of stdout (1) or stderr (2) were not echoed, since this was last asked: too many."""
    def on_copy(self, hook: Callable[[BaseException | None], NoReturn], /) -> None:
        """A function that ends a process which a handler has forked, once the handler has returned there
        (None) or raised an exception."""
    def notify(self, object_id: int, name: str, args: tuple[Any, ...], limit: int, /) -> bool:
        """A call that is not answered; False, and nothing sent, when more than `limit` messages wait
        already."""
    def meter(self, object_id: int, name: str, burst: float, per_second: float, /) -> None:
        """Take so many notifications of this method at once, and so many a second in the long run; one of
        more than a KiB counts as several. What is more is dropped before it is decoded, and counted."""
    def metered(self) -> int:
        """How many notifications were dropped since this was last asked."""
    def progress(self) -> tuple[int, int]:
        """Slots of the ring that were filled, and how many of them the other side says it has taken."""
    def explain(self, note: str, *, hung: bool = False) -> None:
        """What errors say besides when the child has ended or the session was closed; `hung`: they are
        ExtensionHung from now on."""
    def on_end(self, hook: Callable[[], None], /) -> None:
        """Have `hook` called, in whatever thread, before an error says that the child has ended or was
        disconnected; perhaps several times. It is not to wait for anything."""
    def on_error(self, hook: Callable[[BaseException], None], /) -> None:
        """Have `hook` called with each exception that answers a call of the peer's, before it is sent."""
    def on_refused(self, hook: Callable[[BaseException], None], /) -> None:
        """Have `hook` called with an exception that arrives from the child, if the child's sandbox has
        refused a system call since it was called last."""
    def refusals(self) -> list[tuple[str | None, int, tuple[int, int], int, int]] | None:
        """The kinds of system calls that the child's sandbox has refused, in the order of the first of each:
        name, number, arguments that say what for, errno, how many. None: that is not known."""
    def trim(self) -> None:
        """Give free shared memory back to the system now."""
    def share(
        self, *, torch: bool = False, numpy: bool = False, cuda: Collection[bytes] | None = None
    ) -> None:
        """What is shared with the peer instead of copied; before this is called nothing shared is taken.

        `cuda`: UUIDs of the GPUs whose memory is shared. With None, memory of GPUs is not taken either.
        """
    def stats(self) -> dict[str, int]: ...

def shared_storage(size: int, /) -> Any:
    """A torch.UntypedStorage of `size` bytes of zeros that other processes can share. MemoryError."""

def set_framework_hooks(export: Any, restore: Any, /) -> None:
    """Functions for arrays of other packages: value -> (framework, dtype, NumPy array) or None, and back."""

def set_thread_hook(others_wait: Any, /) -> None:
    """A function that says whether no other thread may be inside of an operation on a tensor."""

def set_device_hooks(uuid: Any, device: Any, lend: Any, refuse: Any, /) -> None:
    """Functions for GPUs: number -> 16 bytes of its UUID, these -> torch.device, one that is called with
    (session, a dict of that session for its use, storage, address, handle of the memory) when a storage is
    sent whose address is not in the dict, and one with (session, reason) when what came cannot be opened."""

def cuda_failure() -> str:
    """The call of CUDA's driver that failed last in this thread, and how, or why there is no driver."""

def cuda_release(session: Session, handle: bytes, /) -> None:
    """Do not keep memory mapped that came by this session; it is closed when its last tensor is no more.

    Raises ValueError when the handle has not 64 bytes.
    """

def cuda_events(session: Session, allowed: bool, /) -> None:
    """Whether the other side can wait for events of this process; at first not: this one waits itself."""

def cuda_refused(session: Session, why: str, /) -> None:
    """The other side cannot open memory of GPUs: it is sent copies from now on, after one RuntimeWarning.

    Raises that warning where warnings are errors.
    """

def cuda_devices() -> list[bytes]:
    """UUIDs of the GPUs that CUDA's driver has here, by number; empty without a driver. Makes no context."""

def shared_buffer(size: int, /) -> Any:
    """An object with the buffer protocol over `size` bytes of zeros that can be shared. MemoryError."""

def gather(*awaitables: Any, return_exceptions: bool = False) -> Any:
    """The results of calls that are awaited together, as a list, without a task for each call.

    As `asyncio.gather`, which does it where something else than calls is among them. It is a coroutine.
    """

def send_ahead(value: Any, /) -> None:
    """Let peers that are likely to be sent a new shared tensor or array open it now. Never raises."""

def current_session() -> Session | None:
    """The session whose request is being handled in this context, or None."""

def _poll_echo(fd: int, /) -> None:
    """Answer `_poll_rounds` in another process, on the same file, until it is done. For benchmarks."""

def _poll_rounds(fd: int, count: int, batch: int, /) -> list[float]:
    """Nanoseconds of one round trip, averaged over each of `count` batches of `batch` round trips."""

def output_fd() -> int:
    """One descriptor for the output of all processes: readable while `output_next` has something to say."""

def output_next() -> list[int]:
    """Cookies of sessions whose processes have written something since they were named, or have ended."""

class Zygote:
    """A warm process that forks extensions."""

    pid: int

    @staticmethod
    def spawn(argv: Sequence[str], env: Mapping[str, str], name: str) -> Zygote:
        """Start its program, which is told by PISO_FD. OSError if it cannot run."""
    def ready(self, timeout: float | None = None) -> bytes:
        """Wait (without the GIL) until it can fork; what it reported. CallTimeout, ExtensionDied."""
    def running(self) -> bool:
        """Whether its process has not ended."""
    def close(self) -> None:
        """End it. Its children live on."""

def zygote_guard(fd: int, /) -> None:
    """From now on this process, a zygote, is killed when its host dies. ExtensionDied if it has already."""

def serve_forks(fd: int, report: bytes, idle: float | None, /) -> tuple[list[str], list[str]] | None:
    """Tell the host what it reports and fork as the host asks: (argv, environment) in each child.

    Returns None in the zygote when the host has gone, or when there was no child for `idle` seconds.
    OSError (EBUSY) when there is more than one thread.
    """

def site_loaded() -> None:
    """Let sys.flags say that site has been loaded, in a process that was started without."""

def share_memory() -> bool:
    """Let forked children give back what they touched but did not change. False where that cannot be."""

def limit_shared_memory(bytes: int, /) -> None:
    """How many bytes of arenas and segments this process may have of its own; above: MemoryError."""

def settle_memory() -> int:
    """Give back what was not changed since the fork; once, when the process is idle. Returns pages."""
