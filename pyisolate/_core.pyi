"""The C extension module: sessions between two processes, calls over them, and the conversion of values."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Iterable, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

_C = TypeVar("_C", bound=type)
_T = TypeVar("_T")

__version__: str
HAS_GPU: bool
"""Whether this build supports tensors of GPUs (the build option `gpu`)."""

class PyIsolateError(Exception):
    """Base class of the errors of this package."""

class RemoteError(PyIsolateError):
    """An exception whose class is not registered in this process was raised in the peer's process.

    It is an instance of a subclass that has the remote class's name.
    """

    type_name: str
    """Module and qualified name of the remote class, for example ``"my_plugin.errors.BadImage"``."""

class ExtensionDied(PyIsolateError, ConnectionError):
    """The peer's process has ended."""

    name: str
    pid: int | None
    returncode: int | None
    """The exit status, or the negative number of the signal that ended it, or None if unknown."""
    stderr: str
    """The last lines that the process wrote to stderr."""

class ExtensionHung(ExtensionDied):
    """The process did not answer its watchdog in time and was ended."""

class ExtensionStopped(PyIsolateError):
    """The session was closed by this process."""

class ProtocolError(PyIsolateError):
    """The peer sent a malformed message; the session has been closed."""

class ForkedProcessError(PyIsolateError, RuntimeError):
    """A session was used in a process that was forked from its owner."""

class SandboxError(PyIsolateError):
    """An extension cannot be confined as its configuration requires; the message says what is missing."""

class CallTimeout(PyIsolateError, TimeoutError):
    """A call did not finish within its timeout."""

class Registry:
    """The classes that may be received: enums, dataclasses, named tuples, exceptions."""

    def __init__(self) -> None: ...
    def register(
        self,
        cls: type,
        name: str | None = None,
        replace: bool = False,
        /,
        *,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], object] | None = None,
        subclasses: bool = False,
        by_ref: bool | Iterable[str] = False,
    ) -> str:
        """Register `cls` under `name` (default: ``module:qualname``) and return the name.

        With `replace` the name may already be that of another class: instances received from now on are of
        `cls`, and instances of both classes can be sent.

        Raises TypeError if `cls` is not an Enum, dataclass, named tuple or exception class and is registered
        without `encode` and `decode`, and ValueError if the name is registered for another class.
        """
    def names(self) -> list[str]: ...
    def permitted(self, cls: type, /) -> tuple[str, ...] | None:
        """Return the methods that a reference to an instance of `cls` permits.

        None: instances are not sent by reference.
        """

class Opaque:
    """A received value whose type is not registered in this process."""

    @property
    def type_name(self) -> str: ...

class Call(Coroutine[Any, Any, _T], Generic[_T]):
    """A pending call. It is sent when it is created; `await` returns its result."""

    def send(self, value: Any, /) -> Any: ...
    def throw(self, typ: Any, val: Any = ..., tb: Any = ..., /) -> Any: ...
    def close(self) -> None: ...
    def cancel(self, msg: object = None) -> bool:
        """Request the peer to cancel the handler; a later await raises CancelledError."""
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, _T]: ...

class Method:
    """A method of a remote object, bound to a session. It is sent as a function."""

    __name__: str
    __qualname__: str
    name: str
    session: Session
    timeout: float | None
    sync: bool
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """With `sync`, call, wait without the GIL, and return the result; else send and return a Call."""

class RemoteFunction:
    """A function of another process: call and await it. It stays there as long as this object lives.

    Only the call is possible. It runs in the process of its owner, like a call of a method. Sent back to its
    owner it is the function itself; sent to a third process, calls go through this one.
    """

    __name__: str
    __qualname__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the call and return a Call; a view by `sync` waits and returns the result."""
    @property
    def sync(self) -> RemoteFunction:
        """A view of the function whose calls block and return the result."""
    def with_timeout(self, seconds: float | None, /) -> RemoteFunction:
        """Return a view of the function whose calls raise CallTimeout after `seconds`; None: no limit.

        Raises ValueError if the number is not positive.
        """
    def release(self) -> None:
        """End the reference. Its owner need not keep the function; calls here raise ReferenceError."""
    def __enter__(self) -> RemoteFunction: ...
    def __exit__(self, *error: object) -> None: ...

class Ref(Generic[_T]):
    """An object that is sent by reference: it stays in its process.

    The receiver gets a Ref on which the named methods can be called and awaited. Sent back to its owner it is
    the object itself; back at any holder it is the same Ref.
    """

    type_name: str
    """The name of the object's class."""
    methods: tuple[str, ...]
    """The names of the methods that can be called."""

    def __init__(self, obj: _T, /, methods: Iterable[str] = ()) -> None:
        """Refer to `obj`. `methods`: names of functions that its class defines; without any it is a token.

        Raises ValueError if the object has no such method, or if a name begins with an underscore or is one
        of a Ref's own, and TypeError if `obj` is a reference already.
        """
    @property
    def sync(self) -> Ref[_T]:
        """A view of the object whose calls block and return the result."""
    def with_timeout(self, seconds: float | None, /) -> Ref[_T]:
        """Return a view of the object whose calls raise CallTimeout after `seconds`; None: no limit.

        Raises ValueError if the number is not positive.
        """
    def release(self) -> None:
        """End the reference. Its owner need not keep the object; calls here raise ReferenceError."""
    def __enter__(self) -> Ref[_T]: ...
    def __exit__(self, *error: object) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

class Session:
    """One end of a connection between the host and an extension's process."""

    name: str
    pid: int | None
    """The process id of the child; None in the child and for pairs."""
    value_limit: int
    """Bytes of memory that the values in one message may take on this side, not counting text and buffers.
    Above: MemoryError. In a host initially 1 GiB, or four times its peer's limit of shared memory if that is
    less."""
    generation: int
    """The generation of the extension whose process is at one of the ends."""
    refuse_subclasses: bool
    """Whether values of subclasses that are not registered are refused instead of sent as their base type."""
    call_timeout: float | None
    """Seconds that calls of the peer's functions and references may take. Can only be set."""

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
        """Start a process with a channel to it. PISO_FD names its file descriptor of the channel.

        With `zygote`, the zygote forks the process. With `execute` as well, the forked process executes the
        program, so that the zygote is its parent. `max_requests`: requests of the child that may be
        unanswered at once, at most 1 << 20; 0: 4096. `sandbox` has the fields of piso_sandbox in piso.h.
        (name, active, detail) of each layer are appended to `report`, even if SandboxError is raised.

        Raises OSError if the program cannot run, SandboxError if the sandbox cannot be applied, and with a
        zygote ExtensionDied if the zygote has ended, or OSError (EBUSY) if it has more than one thread.
        """
    @staticmethod
    def attach(fd: int, registry: Registry) -> Session:
        """Return the child's end of the session, from the file descriptor in PISO_FD."""
    @staticmethod
    def pair(registry: Registry, registry2: Registry | None = None) -> tuple[Session, Session]:
        """Return both ends of a session in one process, for tests."""
    def handshake(self, timeout: float | None = None) -> None:
        """Wait, without the GIL, until the child has attached. Raises TimeoutError, ExtensionDied."""
    def register(self, object_id: int, obj: object) -> None:
        """Answer the peer's calls to `object_id` with the methods of `obj` that do not start with ``_``."""
    def unregister(self, object_id: int) -> None: ...
    def method(
        self, object_id: int, name: str, *, sync: bool = False, timeout: float | None = None
    ) -> Method: ...
    def serve(self) -> Awaitable[None]:
        """Answer calls on the running event loop until the session has ended. For the child's main task."""
    def close(self) -> None:
        """Notify the peer and fail pending calls with ExtensionStopped. The process is not ended."""
    def closed(self) -> bool:
        """Return whether the session has ended, for any reason."""
    def kill(self, signal: int = 9) -> None:
        """Send a signal to the child's process group. Does nothing if the child has ended."""
    def wait(self, timeout: float | None = None) -> int | None:
        """Return the child's exit status, or the negative number of the signal that ended it; None after
        `timeout` seconds."""
    def stderr(self) -> str:
        """Return the last lines that the child wrote to stderr."""
    def follow_output(self, cookie: int, /) -> None:
        """Make `output_next` return this cookie once now, and whenever the child has written something or has
        ended; 0 turns that off."""
    def read_output(self, stream: int, /) -> tuple[bytes, int]:
        """Return at most 16 KiB that the child wrote to stdout (1) or stderr (2), and how many bytes after it
        were lost.

        After `output_next` has returned the session's cookie, read both streams until they are empty.
        """
    def echo_dropped(self, stream: int, /) -> int:
        """Return how many bytes of stdout (1) or stderr (2) were not echoed since the last call, because
        there were too many."""
    def on_plain(self, hook: Callable[..., Awaitable[Any]], /) -> None:
        """Set a function that is called with a plain method and its arguments, and returns an awaitable.

        The method is one of an object that is registered here, but not of the control object, and is not
        called in a thread that waits.
        """
    def on_copy(self, hook: Callable[[BaseException | None], NoReturn], /) -> None:
        """Set a function that ends a process that a handler has forked. It is called there when the handler
        has returned (None) or raised an exception."""
    def notify(self, object_id: int, name: str, args: tuple[Any, ...], limit: int, /) -> bool:
        """Send a call without a reply. Return False, and send nothing, if more than `limit` messages are
        waiting to be sent."""
    def meter(self, object_id: int, name: str, burst: float, per_second: float, /) -> None:
        """Limit notifications of this method: `burst` at once, and `per_second` in the long run. One of more
        than a KiB counts as several. Those above the limit are dropped before they are decoded, and
        counted."""
    def metered(self) -> int:
        """Return how many notifications were dropped since the last call."""
    def progress(self) -> tuple[int, int]:
        """Return how many slots of the ring were filled, and how many of them the peer says it has taken."""
    def explain(self, note: str, *, hung: bool = False) -> None:
        """Add a note to the errors for a child that has ended or a closed session. With `hung` these errors
        are ExtensionHung from now on."""
    def on_end(self, hook: Callable[[], None], /) -> None:
        """Call `hook`, in any thread and perhaps several times, before an error reports that the child has
        ended or was disconnected. The hook must not wait for anything."""
    def on_error(self, hook: Callable[[BaseException], None], /) -> None:
        """Call `hook` with each exception that is the reply to a call of the peer, before it is sent."""
    def on_refused(self, hook: Callable[[BaseException], None], /) -> None:
        """Call `hook` with an exception from the child, if the child's sandbox has refused a system call
        since the hook was last called."""
    def refusals(self) -> list[tuple[str | None, int, tuple[int, int], int, int]] | None:
        """Return each kind of system call that the child's sandbox has refused, first ones first: name,
        number, arguments that show its purpose, errno, count. None: unknown."""
    def trim(self) -> None:
        """Return free shared memory to the system now."""
    def share(
        self, *, torch: bool = False, numpy: bool = False, cuda: Collection[bytes] | None = None
    ) -> None:
        """Set what is shared with the peer instead of copied. Until this is called, shared memory from the
        peer is not accepted.

        `cuda`: UUIDs of the GPUs whose memory is shared. With None, GPU memory is not accepted either.
        """
    def stats(self) -> dict[str, int]: ...

def shared_storage(size: int, /) -> Any:
    """Return a torch.UntypedStorage of `size` zero bytes that can be shared. Raises MemoryError."""

def set_framework_hooks(export: Any, restore: Any, /) -> None:
    """Set functions for other packages' arrays: value -> (framework, dtype, NumPy array) | None, and back."""

def set_converters(packages: Collection[str], load: Any, /) -> None:
    """Set the packages whose values are converted, and a function that returns the converters of one."""

def join_texts(texts: list[str], /) -> tuple[bytearray, bytearray]:
    """Return the UTF-8 of texts, one after another, and their ends as 64-bit integers, after a 0."""

def split_texts(text: bytes, offsets: bytes, /) -> list[str]:
    """Return the texts that `join_texts` has joined. Raises ValueError for other text or offsets."""

def set_thread_hook(others_wait: Any, /) -> None:
    """Set a function that returns whether no other thread can be inside an operation on a tensor."""

def set_device_hooks(uuid: Any, device: Any, lend: Any, refuse: Any, /) -> None:
    """Set functions for GPUs.

    `uuid` maps the number of a GPU to the 16 bytes of its UUID, `device` maps these to a torch.device. `lend`
    is called with (session, a dict of that session for its use, storage, address, handle of the memory) when
    a storage is sent whose address is not in the dict. `refuse` is called with (session, reason) when
    received memory cannot be opened.
    """

def cuda_failure() -> str:
    """Return which call of CUDA's driver failed last in this thread, and how, or why there is no driver."""

def cuda_release(session: Session, handle: bytes, /) -> None:
    """Stop keeping memory mapped that was received by this session: it is closed with its last tensor.

    Raises ValueError if the handle does not have 64 bytes.
    """

def cuda_events(session: Session, allowed: bool, /) -> None:
    """Set whether the peer can wait for events of this process. Initially it cannot: this process waits."""

def cuda_refused(session: Session, why: str, /) -> None:
    """Record that the peer cannot open GPU memory: it is sent copies from now on, after one RuntimeWarning.

    Raises that warning where warnings are errors.
    """

def cuda_devices() -> list[bytes]:
    """Return the UUIDs of the GPUs of CUDA's driver, by number; [] without a driver. Creates no context."""

def shared_buffer(size: int, /) -> Any:
    """Return an object with the buffer protocol over `size` zero bytes that can be shared, or raise
    MemoryError."""

def gather(*awaitables: Any, return_exceptions: bool = False) -> Any:
    """Await calls together and return their results as a list, without a task for each call.

    If something other than calls is among the arguments, `asyncio.gather` is used. This is a coroutine.
    """

def prefetch(value: Any, /) -> None:
    """Let peers that are likely to be sent this new shared tensor or array open it now. Never raises."""

def send_by_reference(cls: _C, /) -> _C:
    """Send instances of a class as what their attribute ``_sent`` is: a function or a Ref. A decorator."""

def is_function(value: object, /) -> bool:
    """Return whether a value is sent as a function."""

def own_object(ref: Ref[Any], /) -> tuple[object] | None:
    """Return the object that a Ref of this process refers to; None: it is an object of another process."""

def defined_method(obj: object, name: str, /) -> Callable[..., Any]:
    """Return the function that the object's class defines under a name, bound to the object.

    Raises AttributeError for anything else, such as a property, which is not evaluated.
    """

def check_cancelled() -> None:
    """Raise asyncio.CancelledError if nobody waits any more for the call that is being handled.

    Its caller has given it up or has ended, or its time is over. Returns None otherwise, and outside of a
    call. A plain method that runs for long calls it now and then. The exception is no subclass of Exception,
    so code that handles errors does not handle it by mistake.
    """

def current_call() -> tuple[str, float | None, int] | None:
    """Return the name of the peer whose request is handled in this context, its deadline, the generation."""

def current_request() -> object | None:
    """Return what identifies the request that is being handled in this context, or None."""

def current_session() -> Session | None:
    """Return the session whose request is being handled in this context, or None."""

def _poll_echo(fd: int, /) -> None:
    """Answer `_poll_rounds` in another process, on the same file, until it is done. For benchmarks."""

def _poll_rounds(fd: int, count: int, batch: int, /) -> list[float]:
    """Return nanoseconds of one round trip, averaged over each of `count` batches of `batch` round trips."""

def output_fd() -> int:
    """Return a file descriptor for the output of all processes: readable while `output_next` has cookies."""

def output_next() -> list[int]:
    """Return the cookies of sessions whose processes have written something since the last call, or ended."""

class Zygote:
    """A warm process that forks extensions."""

    pid: int

    @staticmethod
    def spawn(argv: Sequence[str], env: Mapping[str, str], name: str) -> Zygote:
        """Start a zygote's program. PISO_FD names its file descriptor. Raises OSError if it cannot run."""
    def ready(self, timeout: float | None = None) -> bytes:
        """Wait, without the GIL, until the zygote can fork, and return its report. Raises CallTimeout,
        ExtensionDied."""
    def running(self) -> bool:
        """Return whether the zygote's process is still running."""
    def close(self) -> None:
        """End the zygote. Its children keep running."""

def zygote_guard(fd: int, /) -> None:
    """Have this process, a zygote, killed when its host dies. Raises ExtensionDied if it has died already."""

def serve_forks(fd: int, report: bytes, idle: float | None, /) -> tuple[list[str], list[str]] | None:
    """Send the report to the host and fork on its requests. Return (argv, environment) in each child.

    Returns None in the zygote when the host has ended, or when there was no child for `idle` seconds.
    Raises OSError (EBUSY) if there is more than one thread.
    """

def site_loaded() -> None:
    """Make sys.flags show that site is loaded, in a process that was started without it."""

def share_memory() -> bool:
    """Let forked children release memory that they touched but did not change. Return False if impossible."""

def limit_shared_memory(bytes: int, /) -> None:
    """Limit the bytes of arenas and segments that this process may own. Above: MemoryError."""

def settle_memory() -> int:
    """Release memory that was not changed since the fork. Call it once, when idle. Return the pages."""
