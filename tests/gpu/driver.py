"""CUDA's driver by ctypes, without PyIsolate, and a second process that does with it what it is told.

Run as a program this is that process: a JSON object a line, each answered by one.
"""

from __future__ import annotations

import ctypes
import json
import select
import subprocess
import sys
from typing import Any

NOT_READY = 600
RELAXED = 2
INTERPROCESS = 0x2 | 0x4
PATIENCE = 30.0
"""Seconds for an answer of the other process: what hangs there is that test's failure."""
USED = (
    *("cuInit", "cuDeviceGetCount", "cuDeviceGetUuid_v2", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2"),
    *("cuCtxPopCurrent_v2", "cuCtxSynchronize", "cuMemGetAddressRange_v2", "cuPointerGetAttribute"),
    *("cuIpcGetMemHandle", "cuIpcOpenMemHandle_v2", "cuIpcCloseMemHandle", "cuIpcGetEventHandle"),
    *("cuIpcOpenEventHandle", "cuEventCreate", "cuEventRecord", "cuEventQuery", "cuEventSynchronize"),
    *(
        "cuEventDestroy_v2",
        "cuStreamWaitEvent",
        "cuStreamQuery",
        "cuStreamSynchronize",
        "cuStreamIsCapturing",
    ),
    *("cuThreadExchangeStreamCaptureMode", "cuGetErrorName"),
)
"""The functions that src/gpu/cuda_driver.c looks up."""


class Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_ubyte * 64),)


class DlpackTensor(ctypes.Structure):
    """DLManagedTensor: a vector of bytes on a device of CUDA, as PyIsolate gives one to torch."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("device_type", "device", "dimensions")),
        *((name, ctypes.c_uint8) for name in ("code", "bits")),
        ("lanes", ctypes.c_uint16),
        *((name, ctypes.POINTER(ctypes.c_int64)) for name in ("shape", "strides")),
        *((name, ctypes.c_uint64) for name in ("offset", "context")),
        ("deleter", ctypes.c_void_p),
    )


class Memory:
    """Memory that torch is to take by DLPack; `deleted` counts how often it has been given back."""

    def __init__(self, pointer: int, size: int) -> None:
        self.deleted = 0
        self._shape = (ctypes.c_int64 * 1)(size)
        self._deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._delete)
        self._tensor = DlpackTensor(
            data=pointer, device_type=2, device=0, dimensions=1, code=1, bits=8, lanes=1, shape=self._shape
        )
        self._tensor.deleter = ctypes.cast(self._deleter, ctypes.c_void_p)

    def _delete(self, _: int) -> None:
        self.deleted += 1

    def capsule(self) -> Any:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.byref(self._tensor), b"dltensor", None)


class Failed(Exception):
    """A call of the driver failed; `result` is its number."""

    def __init__(self, call: str, result: int, name: str) -> None:
        super().__init__(f"{call} failed with {result} ({name})")
        self.result = result


class Driver:
    """Raises Failed for every result but success."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)

    def result(self, name: str, *args: Any) -> int:
        return int(getattr(self.library, name)(*args))

    def call(self, name: str, *args: Any) -> None:
        result = self.result(name, *args)
        if result != 0:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(result, ctypes.byref(text))
            raise Failed(name, result, (text.value or b"unknown to the driver").decode())

    def uuid(self, device: int) -> bytes:
        found = (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGetUuid_v2", found, device)
        return bytes(found)

    def primary_context(self, device: int) -> int:
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        return context.value or 0

    def current_context(self) -> int:
        context = ctypes.c_void_p()
        self.call("cuCtxGetCurrent", ctypes.byref(context))
        return context.value or 0

    def range(self, pointer: int) -> tuple[int, int]:
        base, size = ctypes.c_uint64(), ctypes.c_size_t()
        self.call("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(pointer))
        return base.value, size.value

    def attribute(self, number: int, pointer: int) -> int:
        value = ctypes.c_uint64()
        self.call("cuPointerGetAttribute", ctypes.byref(value), number, ctypes.c_uint64(pointer))
        return value.value

    def memory_handle(self, pointer: int) -> bytes:
        handle = Handle()
        self.call("cuIpcGetMemHandle", ctypes.byref(handle), ctypes.c_uint64(pointer))
        return bytes(handle.bytes)

    def open(self, handle: bytes) -> int:
        pointer = ctypes.c_uint64()
        self.call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), Handle.from_buffer_copy(handle), 1)
        return pointer.value

    def close(self, pointer: int) -> None:
        self.call("cuIpcCloseMemHandle", ctypes.c_uint64(pointer))

    def event(self) -> tuple[ctypes.c_void_p, bytes]:
        event, handle = ctypes.c_void_p(), Handle()
        self.call("cuEventCreate", ctypes.byref(event), INTERPROCESS)
        self.call("cuIpcGetEventHandle", ctypes.byref(handle), event)
        return event, bytes(handle.bytes)

    def open_event(self, handle: bytes) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self.call("cuIpcOpenEventHandle", ctypes.byref(event), Handle.from_buffer_copy(handle))
        return event

    def read(self, pointer: int, size: int) -> bytes:
        """After all that the default stream was given."""
        data = ctypes.create_string_buffer(size)
        self.call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(pointer), ctypes.c_size_t(size))
        return data.raw

    def stream_query(self, stream: int) -> int:
        return self.result("cuStreamQuery", ctypes.c_void_p(stream))

    def captured(self, stream: int) -> int:
        status = ctypes.c_int()
        self.call("cuStreamIsCapturing", ctypes.c_void_p(stream), ctypes.byref(status))
        return status.value

    def exchange_capture_mode(self, mode: int) -> int:
        value = ctypes.c_int(mode)
        self.call("cuThreadExchangeStreamCaptureMode", ctypes.byref(value))
        return value.value


class Peer:
    """The other process, with the primary context of the same device."""

    def __init__(self, uuid: bytes) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.do("use", uuid=uuid.hex())

    def do(self, what: str, **arguments: Any) -> Any:
        """Raises AssertionError with what the driver said there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self.kill()
            raise AssertionError(f"the other process did not answer {what!r} within {PATIENCE:g} s")
        line = self._process.stdout.readline()
        assert line, f"the other process ended at {what!r}"
        answer = json.loads(line)
        assert "error" not in answer, f"in the other process: {answer['error']}"
        return answer["result"]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the other process does not end") from None


class _Commands:
    def __init__(self) -> None:
        self.driver = Driver()
        self.events: list[ctypes.c_void_p] = []

    def use(self, uuid: str) -> None:
        count = ctypes.c_int()
        self.driver.call("cuDeviceGetCount", ctypes.byref(count))
        device = [self.driver.uuid(i).hex() for i in range(count.value)].index(uuid)
        self.driver.call("cuCtxPushCurrent_v2", ctypes.c_void_p(self.driver.primary_context(device)))

    def open(self, handle: str) -> int:
        return self.driver.open(bytes.fromhex(handle))

    def close(self, pointer: int) -> None:
        self.driver.close(pointer)

    def read(self, pointer: int, size: int) -> str:
        return self.driver.read(pointer, size).hex()

    def range(self, pointer: int) -> tuple[int, int]:
        return self.driver.range(pointer)

    def attributes(self, pointer: int) -> tuple[int, int]:
        return self.driver.attribute(11, pointer), self.driver.attribute(12, pointer)

    def open_event(self, handle: str) -> int:
        self.events.append(self.driver.open_event(bytes.fromhex(handle)))
        return len(self.events) - 1

    def query_event(self, event: int) -> int:
        return self.driver.result("cuEventQuery", self.events[event])

    def wait(self, event: int) -> None:
        self.driver.call("cuStreamWaitEvent", None, self.events[event], 0)

    def own(self, value: int, size: int) -> str:
        """The handle of memory of this process, full of a byte."""
        pointer = ctypes.c_uint64()
        self.driver.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        self.driver.call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(value), ctypes.c_size_t(size))
        self.driver.call("cuCtxSynchronize")
        return self.driver.memory_handle(pointer.value).hex()


def main() -> None:
    commands = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            commands = commands or _Commands()
            answer = {"result": getattr(commands, message.pop("do"))(**message)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
