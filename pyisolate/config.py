"""The types of the two configurations, which are plain dictionaries.

`_settings/validation.py` checks them.
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
    """Whether an extension's process must be confined."""

    REQUIRED = "required"
    """The process is confined. If it cannot be, it does not start: SandboxError says what is missing."""
    DISABLED = "disabled"
    """The process is not confined: it has all rights of the host's user. No limits apply; the log says so."""


StartMethod = Literal["auto", "fork", "exec"]
"""How an extension's process is started.

``"fork"``: it is forked from a zygote, a warm process that has loaded the interpreter and the modules that
extensions share. That takes milliseconds and little memory. The first extension waits until the zygote is
ready, and so does the first one whose `env` has other variables that must be set before an interpreter or its
libraries start, such as OMP_NUM_THREADS. An extension that cannot be forked fails to start, with the reason.

``"exec"``: a new interpreter is started, for hosts that embed an interpreter, or for an extension that must
not share its memory layout and the seed of its string hashes with others.

``"auto"``: fork, or exec for an extension that cannot be forked, such as one with another interpreter.
"""


class _RequiredManagerKeys(TypedDict):
    venv_root_path: str
    """The folder for the environments of extensions. It is created when the first environment is needed."""


class ExtensionManagerConfig(_RequiredManagerKeys, total=False):
    """Configuration of an `ExtensionManager`. Only `venv_root_path` is needed."""

    start_method: StartMethod
    """For extensions whose configuration does not set it. Default ``"auto"``."""
    python_executable: str
    """The Python that runs the processes of extensions. It must have the host's version. Default: the host's
    own, ``sys.executable``. A frozen program, or one that embeds Python, must set this key."""


class SandboxLimits(TypedDict, total=False):
    """What a confined extension may use. Resources without a key are not limited,
    but for `open_files`."""

    memory: int
    """Bytes of private memory of each of its processes. Above: MemoryError. Where a control group can be
    made, also bytes of all its memory together, including hidden shared memory and buffers; `shared_memory`
    and `temp_size`, if set, are added to that limit. Above: ExtensionDied, which names the limit.
    `sandbox_status` reports which limits apply."""
    shared_memory: int
    """Bytes of memory that it shares with the host: large values that it sends, and arrays and tensors that
    it shares. Above: MemoryError. The same limit applies in the other direction."""
    cpu_seconds: int
    """Processor time of each of its processes, from its start. Above: ExtensionDied, which names the
    limit."""
    processes: int
    """Processes and threads, including the interpreter's own. Above: BlockingIOError, or RuntimeError for a
    thread. For root only where a control group can be made, else SandboxError at the start."""
    open_files: int
    """File descriptors of each process. Above: OSError EMFILE."""
    file_size: int
    """Bytes of one file. Above: OSError EFBIG."""
    temp_size: int
    """Bytes in its temporary folder. Above: OSError ENOSPC. Needs a system that permits namespaces."""


class SandboxConfig(TypedDict, total=False):
    """What a confined extension may access in addition to its own files; see docs/security-model.md."""

    writable_paths: list[str]
    """Files, and folders with everything below them. A path that does not exist is ignored, with a log
    message. The folder of environments, `venv_root_path`, must not be in any of them."""
    readonly_paths: list[str] | dict[str, str]
    """Paths, or a mapping from path in the host to path in the sandbox, which must be the same."""
    host_paths: list[str]
    """What the extension can read of the folders on the host's `sys.path`, instead of all that can be
    imported from them: files, and folders with everything below them. A path that begins with ``!`` is
    excluded, even if another path here or in `readonly_paths` contains it. If all paths begin with ``!``, the
    default applies to the rest. Default: modules, and packages with their data. A package is a folder that
    has an ``__init__``, or that the host has imported."""
    network: bool
    """Default False: no network at all."""
    local_sockets: bool
    """Default False: where the system permits namespaces, Unix stream sockets in its temporary folder and
    below `writable_paths`, as multiprocessing and PyTorch's data loaders need them; elsewhere only socket
    pairs. True: all Unix sockets that the user may connect to, such as services of this machine."""
    devices: list[str]
    """Device files, for example ``"/dev/video0"``; ``"gpu"`` stands for those of graphics processors, which
    `share_cuda_ipc` also permits."""
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
    """``"on-failure"`` (default): the process is restarted. ``"never"``: it is not."""
    limit: int
    """The number of restarts, counted anew after a process has run for a minute; default 5. After that, calls
    raise ExtensionDied."""
    delay: float
    """Seconds before the first restart; the delay doubles for each further one, up to 30. Default 0.1."""


class _RequiredKeys(TypedDict):
    name: str
    """Unique in its manager. The extension's environment is named after it."""
    module_path: str
    """The folder with the extension's ``__init__.py``. A confined extension cannot write there, so Python
    compiles its modules at each start. To compile them once, run ``python -m compileall <folder>``."""


class ExtensionConfig(_RequiredKeys, total=False):
    """Configuration of one extension. Only `name` and `module_path` are needed."""

    module: str
    """Accepted for manifests of older versions; it has no effect."""
    isolated: bool
    """Default True: the extension runs in a separate process. False: it runs in the host's process, behind
    the same proxy."""
    dependencies: list[str]
    """Requirements in pip's syntax, including paths, URLs and ``-e path``, as one item or two. Comments are
    ignored, and so is PyIsolate: extensions use the host's. Default: no dependencies, and no environment."""
    extra_index_urls: list[str]
    """Package indexes in addition to those of pip's and uv's configuration."""
    allow_source_builds: bool
    """Default False: dependencies are installed only from wheels, which runs none of their code. A dependency
    without a wheel raises an EnvironmentBuildError that names it. True: it is built from its source, and its
    code runs for that in a sandbox like the extension's, with the same limits. Projects on this machine
    (``-e path``, paths) are the host's own: they are built with the host's rights in either case."""
    build_network: bool
    """Default False. True, with `allow_source_builds`: code that builds a dependency can use the network."""
    environment_timeout: float | None
    """Seconds that each step of building the environment may take: resolving, each build of a package,
    installing, compiling. Default 3,600; None: no limit."""
    environment_size: int | None
    """Bytes of disk space that building the environment may take, with uv's cache and temporary files. It is
    measured as the decrease of free space, whoever caused it. Default 32 GiB; None: no limit."""
    apis: list[type[ProxiedSingleton]]
    """Singletons of the host that the extension may call."""
    env: dict[str, str]
    """Environment variables of the extension's process, which override inherited ones. A confined process
    inherits only a list of variables that configure Python and libraries; a secret must be given here. If
    ``HOME`` is set here, the ``XDG_...`` variables are not set; otherwise they name subfolders of the
    temporary folder."""
    call_timeout: float | None
    """Seconds that a call may take. Default None: no limit. `with_timeout` of the proxy overrides it."""
    subclasses: Literal["send", "refuse"]
    """How values of unregistered subclasses of str, int, float, bytes, list, tuple, dict and set are handled,
    in both directions: ``"send"`` (default) sends them as their base type, ``"refuse"`` raises TypeError."""
    value_limit: int | None
    """Bytes of the host's memory that the values in one message of the extension may take, not counting text
    and buffers; a list of ten million numbers takes 400 MB. Above, that call raises MemoryError. Default
    None: 1 GiB, or four times `shared_memory` of its limits if that is less, but at least 64 MiB."""
    start_timeout: float | None
    """Seconds from the start of the process to the end of `on_module_loaded`; building the environment does
    not count. Default None: 60 until the process answers, then no limit."""
    start_method: StartMethod
    """Default: the manager's."""
    watchdog: float | None
    """Seconds for which the extension's main thread may be kept from receiving messages, for example by a
    long plain function; after that the process is killed and calls raise ExtensionHung. Default None: no
    limit. It does not apply while the extension loads."""
    max_open_calls: int
    """Calls of the extension to the host that may be unanswered at once, including events whose handlers have
    not finished; default 4,096. Further calls wait in the extension, in its memory, until one of them is
    answered."""
    threads: int | None
    """How many threads run the plain methods of the extension. They start in the order of the calls. Default
    None: its main thread runs them one after another. `async` methods run in the main thread in either case,
    and so do functions that the extension has sent. Has no effect on an extension in the host's process."""
    restart: str | RestartConfig
    """``"never"`` (default), ``"on-failure"``, or a dictionary. A restarted process gets the same singletons,
    event handlers and registered objects; whatever was bound to the previous process raises ExtensionDied."""
    echo_output: bool
    """Whether the output of the process is also written to the host's stdout and stderr, as far as these
    accept it without blocking. Default: only if `logging` does not show it (logger
    ``pyisolate.extension.<name>``, INFO and WARNING)."""
    sandbox: SandboxConfig
    sandbox_mode: SandboxMode
    share_torch: bool
    """Default False: the extension has its own PyTorch, and tensors are copied. True: it uses the host's
    PyTorch, and CPU tensors are shared. Their storage moves to shared memory when they are first sent, and
    each side sees what the other writes, in the whole storage, even if only a view was sent. Tensors whose
    memory is also used by something else (NumPy, a file) are copied, with a warning. `grad`, hooks and
    attributes of a tensor are not sent. torch is not installed then, even if a dependency requires it."""
    share_numpy: bool
    """Default False: NumPy arrays are copied. True: arrays made by `pyisolate.empty_array`, and views of
    them, are shared. Others are still copied, because NumPy cannot move an array to other memory."""
    share_cuda_ipc: bool
    """Default False: GPU tensors are copied through CPU memory, to the GPU with the same UUID. True, with
    `share_torch`: their memory is shared if the driver supports it; otherwise they are copied, with one
    warning. A confined extension may then use the devices. It is not the default, because it has not been run
    on a GPU yet."""
    package_manager: str
    """``"uv"``; others are not supported yet."""
    execution_model: str
    """``"host-coupled"``; others are not supported yet."""
    sealed_host_ro_paths: list[str]
    """Not supported yet, like all following keys."""
    conda_channels: list[str]
    conda_dependencies: list[str]
    conda_platforms: list[str]
    cuda_wheels: CUDAWheelConfig
