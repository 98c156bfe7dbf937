"""The two configurations, which are plain dictionaries.

How they are checked is in validation.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from .singletons import ProxiedSingleton

__all__ = [
    "CUDAWheelConfig",
    "ExtensionConfig",
    "ExtensionManagerConfig",
    "RestartConfig",
    "SandboxConfig",
    "SandboxLimits",
    "SandboxMode",
    "StartMethod",
]


class SandboxMode(Enum):
    """How much an extension's process is to be confined."""

    REQUIRED = "required"
    """Confined, or not started: SandboxError says what is missing."""
    DISABLED = "disabled"
    """Not confined: it runs with the rights of the host's user. Limits do not hold; the log says so."""


StartMethod = Literal["auto", "fork", "exec"]
"""How an extension's process comes to be.

``"fork"``: from a warm process that has loaded the interpreter and what extensions share, in milliseconds
and with little memory of its own. The first one waits for that process, and so does the first one with other
variables in `env` that must be set before an interpreter or its libraries start, such as OMP_NUM_THREADS.
``"exec"``: as a program of its own, for hosts that embed an interpreter, or if the extension is not to share
the layout of its memory and the seed of string hashes with others. ``"auto"``: fork, or exec what cannot be
forked, such as another interpreter. With ``"fork"`` an extension that cannot be forked fails to start and
says why.
"""


class _RequiredManagerKeys(TypedDict):
    venv_root_path: str
    """The folder for the environments of extensions; it is created when the first one is needed."""


class ExtensionManagerConfig(_RequiredManagerKeys, total=False):
    """Configuration of an `ExtensionManager`. Only `venv_root_path` is needed."""

    start_method: StartMethod
    """For extensions that do not say it themselves. Default ``"auto"``."""
    python_executable: str
    """The Python that runs the processes of extensions, of the same version as the host's. Default: the
    host's own, ``sys.executable``. A frozen program, and one that embeds Python, has to name one."""


class SandboxLimits(TypedDict, total=False):
    """What a confined extension may use. What is left out is not limited."""

    memory: int
    """Bytes of private memory of each of its processes. Above: MemoryError. Where a control group can be made
    also bytes of all its memory together, hidden shared memory and buffers included, with `shared_memory` and
    `temp_size` on top if given. Above: ExtensionDied, which says so. `sandbox_status` tells which holds."""
    shared_memory: int
    """Bytes of memory that it shares with the host: large values that it sends, arrays and tensors that it
    shares. Above: MemoryError. As much goes in the other direction."""
    cpu_seconds: int
    """Processor time of each of its processes, from the start. Above: ExtensionDied, which says so."""
    processes: int
    """Processes and threads, with the interpreter's own. Above: BlockingIOError, or RuntimeError of a thread.
    Of root only where a control group can be made; else SandboxError at the start."""
    open_files: int
    """Descriptors of each process. Above: OSError EMFILE."""
    file_size: int
    """Bytes of one file. Above: OSError EFBIG."""
    temp_size: int
    """Bytes in its temporary folder. Above: OSError ENOSPC. Only where the system permits namespaces."""


class SandboxConfig(TypedDict, total=False):
    """What a confined extension may reach besides its own files; see docs/security-model.md."""

    writable_paths: list[str]
    """Files and folders that exist, else the log says so; with all that is below. The folder of environments,
    `venv_root_path`, may not be among that."""
    readonly_paths: list[str] | dict[str, str]
    """Paths, or path in the host -> path in the sandbox, which has to be the same."""
    host_paths: list[str]
    """What it can read of the folders on the host's `sys.path`, in place of all that can be imported from
    them: files, and folders with all that is below. One that begins with ``!`` is excluded, also where
    another path, or one of `readonly_paths`, has a folder that it lies in; if all begin so, the rest is as by
    default. Default: modules, and packages with their data: folders that have an ``__init__``, or that the
    host has imported."""
    network: bool
    """Default False: none at all."""
    local_sockets: bool
    """Default False: where the system permits namespaces, Unix sockets (streams) in its temporary folder and
    below `writable_paths`, as multiprocessing and PyTorch's data loaders need them; elsewhere pairs only.
    True: all that the user may connect to, such as services of this machine."""
    devices: list[str]
    """Device files, for example ``"/dev/video0"``; ``"gpu"`` stands for those of graphics processors, which
    `share_cuda_ipc` permits, too."""
    limits: SandboxLimits


class CUDAWheelConfig(TypedDict, total=False):
    """Where wheels for a CUDA version come from. Not supported yet."""

    index_url: str
    index_urls: list[str]
    packages: list[str]
    package_map: dict[str, str]


class RestartConfig(TypedDict, total=False):
    """What happens when an extension's process ends by itself."""

    policy: str
    """``"on-failure"`` (default): it is started again. ``"never"``."""
    limit: int
    """How often, until one has run for a minute; default 5. Then calls raise ExtensionDied."""
    delay: float
    """Seconds before the first time; each further one takes twice as long, at most 30. Default 0.1."""


class _RequiredKeys(TypedDict):
    name: str
    """Unique in its manager; also names the extension's environment."""
    module_path: str
    """The folder with the extension's ``__init__.py``. A confined extension cannot write there, so Python
    compiles its modules at each start, unless that was done: ``python -m compileall <folder>``."""


class ExtensionConfig(_RequiredKeys, total=False):
    """Configuration of one extension. Only `name` and `module_path` are needed."""

    module: str
    """Kept for manifests of older versions; it has no effect."""
    isolated: bool
    """Default True: in a process of its own. False: in the host's process, behind the same proxy."""
    dependencies: list[str]
    """Requirements as pip takes them, also paths, URLs and ``-e path``, in one item or two. Comments are left
    out, and so is PyIsolate: extensions use the host's. Default: none, and no environment."""
    extra_index_urls: list[str]
    """Package indexes besides those of pip's and uv's configuration."""
    allow_source_builds: bool
    """Default False: dependencies are installed from wheels only, which runs nothing of theirs. One that has
    none is an EnvironmentBuildError that names it. True: it is built from its source, and its code runs for
    that in a sandbox like the extension's, with its limits. Projects on this machine (``-e path``, paths) are
    the host's own: they are built with its rights, whatever is said here."""
    build_network: bool
    """Default False. True, with `allow_source_builds`: code that builds a dependency has the network."""
    environment_timeout: float | None
    """Seconds that each step of building the environment may take: resolving, each build of a package,
    installing, compiling. Default 3,600; None: no limit."""
    environment_size: int | None
    """Bytes of the disk that building the environment may take, with uv's cache and temporary files: by how
    much less is free than before, whoever has taken it. Default 32 GiB; None: no limit."""
    apis: list[type[ProxiedSingleton]]
    """Singletons of the host that the extension may call."""
    env: dict[str, str]
    """Environment variables of the extension's process, over the inherited ones. A confined one inherits a
    list of those that say how Python and libraries are set up; what may be a secret has to be given here.
    With ``HOME`` the ``XDG_...`` variables, which else name folders in its temporary one, are not set."""
    call_timeout: float | None
    """Seconds that a call may take. Default None: no limit. `with_timeout` of the proxy overrides it."""
    subclasses: Literal["send", "refuse"]
    """Values of subclasses of str, int, float, bytes, list, tuple, dict and set that are not registered, in
    both directions: ``"send"`` (default) as their base, ``"refuse"`` with a TypeError."""
    value_limit: int | None
    """Bytes of the host's memory that what one message of the extension holds may take, text and buffers not
    counted; a list of ten million numbers takes 400 MB. Above, that call raises MemoryError. Default None:
    1 GiB, or four times `shared_memory` of its limits if that is less, but at least 64 MiB."""
    start_timeout: float | None
    """Seconds from the start of the process to the end of `on_module_loaded`; building the environment does
    not count. Default None: 60 until the process answers, then no limit."""
    start_method: StartMethod
    """Default: the manager's."""
    watchdog: float | None
    """Seconds for which the extension's main thread may be kept from taking messages, for example by a long
    plain function; then the process is ended and calls raise ExtensionHung. Default None: for ever. Not for
    loading."""
    max_open_calls: int
    """Calls of the extension to the host that may be unanswered at once; default 4,096. Further ones wait in
    the extension, in its memory, until one of them is answered. Of events, which have no answer, 4,096 may
    wait for their handlers; further ones are dropped, with one RuntimeWarning."""
    restart: str | RestartConfig
    """``"never"`` (default), ``"on-failure"``, or a dictionary. A process that is started again gets
    singletons, event handlers and registered objects as before; what was bound to the one before raises
    ExtensionDied."""
    echo_output: bool
    """Whether the output of the process also goes to the host's stdout and stderr, as far as these take it at
    once. Default: where `logging` does not show it (logger ``pyisolate.extension.<name>``, INFO and
    WARNING)."""
    sandbox: SandboxConfig
    sandbox_mode: SandboxMode
    share_torch: bool
    """Default False: the extension has a PyTorch of its own, and tensors are copied. True: it uses the
    host's, and tensors of the CPU are shared: their storage moves into shared memory when they are first
    sent, and both sides see what either writes, in all of the storage, also where a view was sent. Tensors
    whose memory something else has, too (NumPy, a file) are copied, with a warning. Of a tensor `grad`, hooks
    and attributes are not sent. torch is then left out of what its dependencies need."""
    share_numpy: bool
    """Default False: NumPy arrays are copied. True: those that `pyisolate.empty_array` has made, and views of
    them, are shared; others are still copied, because NumPy cannot move an array to other memory."""
    share_cuda_ipc: bool
    """Default False: tensors of a GPU are copied through the memory of the CPU, to the GPU of the same UUID.
    True, with `share_torch`: their memory is shared, where the driver can; where it cannot they are copied,
    with one warning. A confined extension may then use the devices. Not the default, because it has not been
    run on a GPU yet."""
    package_manager: str
    """``"uv"``; others are not supported yet."""
    execution_model: str
    """``"host-coupled"``; others are not supported yet."""
    sealed_host_ro_paths: list[str]
    """Not supported yet, like all that follow."""
    conda_channels: list[str]
    conda_dependencies: list[str]
    conda_platforms: list[str]
    cuda_wheels: CUDAWheelConfig
