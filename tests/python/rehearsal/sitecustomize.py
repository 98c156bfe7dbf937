"""Makes torch pretend that there is a GPU, in each process that finds this folder on PYTHONPATH.

For tests/python/tensors/test_gpu_rehearsal.py. The device's memory is the mock driver's
(tests/c/mock_cuda.c), so it is known by its address; the CPU computes in it, at once. Allocations are cut
from segments that are kept, as PyTorch's allocator does it. Streams are busy from `_sleep` until somebody
waits for them, whatever happens in between: order is not shown by this.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.machinery
import os
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import Any

SMALL, SEGMENT, GRAIN = 1 << 20, 2 << 20, 512


class Device:
    """The mock's memory and streams, and a capture into a graph."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        sys.path.append(os.environ["CUDA_MOCK_HELPERS"])
        import pretended_gpu

        self.mock, self.importing = pretended_gpu.mock(), pretended_gpu.importing
        self.mock.tracked, self.mock.devices = True, 1
        self.segments: dict[int, tuple[int, dict[int, int]]] = {}
        self.streams = [Stream(self, 0)]
        self.capture: list[Any] | None = None
        self.ready = False

    def init(self) -> None:
        if not self.ready:
            context = ctypes.c_void_p()
            assert self.driver.cuInit(0) == 0
            assert self.driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
            assert self.driver.cuCtxPushCurrent_v2(context) == 0
            self.ready = True

    def has(self, address: int) -> bool:
        base, size = ctypes.c_uint64(), ctypes.c_size_t()
        found = (ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(address))
        return address != 0 and self.driver.cuMemGetAddressRange_v2(*found) == 0

    def allocate(self, size: int) -> Any:
        """An array of bytes on the device, freed when it is collected."""
        self.init()
        size = max(GRAIN, -(-size // GRAIN) * GRAIN)
        base, at = self._place(size)
        self.segments[base][1][at] = size
        array = (ctypes.c_ubyte * size).from_address(at)
        weakref.finalize(array, self._give_back, base, at).atexit = False
        return array

    def _place(self, size: int) -> tuple[int, int]:
        for base, (length, taken) in self.segments.items():
            at = base
            for start, taken_size in [*sorted(taken.items()), (base + length, 0)]:
                if start - at >= size and (length == SEGMENT) == (size <= SMALL):
                    return base, at
                at = start + taken_size
        length = SEGMENT if size <= SMALL else size
        pointer = ctypes.c_uint64()
        for _ in range(2):
            if self.driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(length)) == 0:
                self.segments[pointer.value] = (length, {})
                return pointer.value, pointer.value
            self.empty_cache()
        import torch

        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")

    def _give_back(self, base: int, at: int) -> None:
        del self.segments[base][1][at]

    def empty_cache(self) -> None:
        for base in [base for base, (_, taken) in self.segments.items() if not taken]:
            del self.segments[base]
            assert self.driver.cuMemFree_v2(ctypes.c_uint64(base)) == 0

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def properties(self, index: Any = 0) -> Any:
        found = (ctypes.c_ubyte * 16)()
        self.driver.cuDeviceGetUuid_v2(found, 0)
        text = bytes(found).hex()
        parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        return SimpleNamespace(uuid="-".join(parts), name="a pretended GPU", total_memory=1 << 33)

    def synchronize(self, device: Any = None) -> None:
        self.init()
        assert self.driver.cuCtxSynchronize() == 0

    def sleep(self, cycles: int) -> None:
        self.init()
        self.mock.work(self.streams[-1].cuda_stream)

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Any:
        self.streams.append(stream)
        yield
        self.streams.pop()


class Stream:
    def __init__(self, device: Device, handle: int | None = None) -> None:
        self.cuda_stream = handle or 0
        if handle is None:
            created = ctypes.c_void_p()
            assert device.driver.cuStreamCreate(ctypes.byref(created), 1) == 0
            self.cuda_stream = created.value or 0


class Graph:
    def __init__(self, device: Device) -> None:
        self.device, self.calls = device, []

    def capture_begin(self, **options: Any) -> None:
        self.device.capture, self.device.mock.capturing = self.calls, True

    def capture_end(self) -> None:
        self.device.capture, self.device.mock.capturing = None, False

    def replay(self) -> None:
        for function, args, options in self.calls:
            function(*args, **options)


@contextlib.contextmanager
def capture(device: Device, graph: Graph) -> Any:
    device.synchronize()
    with device.stream(Stream(device)):
        graph.capture_begin()
        yield
        graph.capture_end()


READS = {"item", "tolist", "cpu", "equal", "__bool__", "__float__", "__int__", "numpy"}


def install(torch: Any) -> None:
    """From now on `device="cuda"` works in this thread."""
    from torch.overrides import TorchFunctionMode
    from torch.utils import _pytree

    device = Device()

    def on_device(t: Any) -> bool:
        return isinstance(t, torch.Tensor) and device.has(t.untyped_storage().data_ptr())

    def move(t: Any, copy: bool = True) -> Any:
        """Copy the result of the CPU into the device's memory, in place."""
        if not isinstance(t, torch.Tensor) or on_device(t):
            return t
        raw = t.detach()
        storage = raw.untyped_storage()
        memory = torch.frombuffer(device.allocate(storage.nbytes()), dtype=torch.uint8)
        if copy:
            memory[: storage.nbytes()].copy_(torch.empty(0, dtype=torch.uint8).set_(storage))
        there = torch.empty(0, dtype=raw.dtype)
        there.set_(memory.untyped_storage(), raw.storage_offset(), raw.shape, raw.stride())
        t.data = there
        return t

    def target(name: str, args: Any, options: dict[str, Any]) -> str | None:
        """Return where the result is requested; remove that from `options`."""
        wanted = options.pop("device", None)
        if name == "to":
            wanted = next((a for a in args[1:] if isinstance(a, (str, torch.device))), wanted)
        return None if wanted is None else torch.device(wanted).type

    class Pretence(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = dict(kwargs or {})
            name = getattr(function, "__name__", "")
            if name == "__get__":
                name = getattr(function.__self__, "__name__", "")
            here = any(on_device(a) for a in _pytree.tree_leaves((args, options)))
            if name in ("is_cuda", "is_cpu", "device", "get_device") and here:
                answers = {"is_cuda": True, "is_cpu": False, "device": torch.device("cuda", 0)}
                return answers.get(name, 0)
            if not here and "device" not in options and name != "to":
                return function(*args, **options)
            where = target(name, args, options)
            if here and name in READS and device.capture is None:
                device.driver.cuStreamSynchronize(ctypes.c_void_p(device.streams[-1].cuda_stream))
            if name == "cpu" or (here and where == "cpu"):
                return function(args[0].detach().clone()) if here else args[0]
            if name == "to" and where == "cuda":
                rest = [a for a in args[1:] if not isinstance(a, (str, torch.device))]
                copy = args[0].clone() if not here else args[0]
                return move(copy.to(*rest, **options) if rest or options else copy)
            if device.capture is not None and name.endswith("_"):
                device.capture.append((function, args, options))
                return args[0]
            try:
                result = function(*args, **options)
            except RuntimeError as error:
                if "can't allocate memory" in str(error):
                    raise torch.OutOfMemoryError("CUDA out of memory") from None
                raise
            if where == "cuda" and name.startswith("empty"):
                return move(result, copy=False)
            return _pytree.tree_map(move, result) if here or where == "cuda" else result

    for name, value in {
        "init": device.init,
        "is_available": lambda: device.driver.cuInit(0) == 0,
        "device_count": lambda: 1,
        "synchronize": device.synchronize,
        "empty_cache": device.empty_cache,
        "mem_get_info": device.mem_get_info,
        "get_device_properties": device.properties,
        "current_stream": lambda device_index=None: device.streams[-1],
        "default_stream": lambda device_index=None: device.streams[0],
        "stream": device.stream,
        "Stream": lambda: Stream(device),
        "ExternalStream": lambda handle: Stream(device, handle),
        "_sleep": device.sleep,
        "CUDAGraph": lambda: Graph(device),
        "graph": lambda graph: capture(device, graph),
        "is_current_stream_capturing": lambda: device.capture is not None,
    }.items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = "pretended"
    torch.utils.dlpack.from_dlpack = device.importing(torch.utils.dlpack.from_dlpack)
    if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        del torch.Tensor.__dlpack_c_exchange_api__  # it would find the real device
    Pretence().__enter__()
    real_run = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        with Pretence():
            real_run(thread)

    threading.Thread.run = run


def permit(sandbox: Any) -> None:
    """Let confined extensions of this process reach the mock and its memory, as they reach a driver."""
    real = sandbox.Sandbox.__init__

    def init(self: Any, settings: Any, *others: Any) -> None:
        folders = {
            "readonly_paths": [os.environ["LD_LIBRARY_PATH"], os.environ["CUDA_MOCK_HELPERS"]],
            "writable_paths": [os.environ["CUDA_MOCK_FOLDER"]],
        }
        real(self, dataclasses.replace(settings, sandbox={**settings.sandbox, **folders}), *others)

    real_environ = sandbox.Sandbox.environ

    def environ(self: Any, *others: Any) -> dict[str, str]:
        mock = {name: value for name, value in os.environ.items() if name.startswith("CUDA_MOCK_")}
        return {**real_environ(self, *others), **mock}

    sandbox.Sandbox.__init__ = init
    sandbox.Sandbox.environ = environ


class Finder:
    """Changes a module when it has been imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            real = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                real(module)
                PATCHES[name](module)

            spec.loader.exec_module = exec_module
        return spec


PATCHES = {"torch": install, "pyisolate._sandbox.policy": permit}

if "torch" in sys.modules:  # forked from a process that has loaded the module
    install(sys.modules["torch"])
else:
    sys.meta_path.insert(0, Finder())
