"""The tensor rows: six sizes, on the CPU and on a GPU. PyTorch is imported only if a row needs it."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import time
from collections.abc import Awaitable, Callable
from functools import cache, partial
from time import perf_counter_ns
from typing import Any

import numpy as np

import pyisolate
from rpcbench import machine
from rpcbench.cases import TENSOR, Case
from rpcbench.fleet import MAIN, Fleet
from rpcbench.harness import Operation, Sampler, timed, timed_sync

SHAPES: dict[str, tuple[int, ...]] = {
    "tiny_tensor": (10, 10),
    "small_tensor": (100, 100),
    "medium_tensor": (512, 512),
    "large_tensor": (1024, 1024),
    "image_8k": (3, 8192, 8192),
    "model_6gb": (40132, 40132),
}
DEVICES = {"cpu": "cpu", "gpu": "cuda"}
ITEM_BYTES = 4  # float32
MARKS = 1024
"""The largest number of elements of a tensor that have marked values, which are checked in answers."""
COPY_LIMIT = 2**30
"""Tensors up to this many bytes are also copied, for comparison; larger ones would need too much memory."""
MEMORY_FROM = 2**20
"""The memory of both processes is shown for rows with at least this many bytes."""
SETTLING = 3
"""Small calls before each first send."""
PATIENCE = 3.0
"""Seconds to wait until the memory of the previous row is released."""

ONE_WAY, WARM_COPY = "one way", "warm copy"
FIRST, FIRST_EMPTY = "first send", "first send, pyisolate.empty"
AGAIN_LATER = "one way, after a new tensor was made"


def row_names(*, gpu: bool) -> list[str]:
    """Return the names of the rows, without the suffix of a configuration."""
    return [f"{name}_{device}" for device in (DEVICES if gpu else ["cpu"]) for name in SHAPES]


def cases(*, gpu: bool, max_bytes: float = math.inf) -> list[Case]:
    """Return the rows in the order of `row_names`; those above `max_bytes` will be skipped."""
    found = []
    for device in DEVICES if gpu else ["cpu"]:
        for name, shape in SHAPES.items():
            prepare, obstacle = partial(_prepare, shape, device), partial(_obstacle, shape, device, max_bytes)
            found.append(Case(f"{name}_{device}", TENSOR, prepare, obstacle=obstacle))
    return found


@cache
def installed_torch() -> Any:
    """Return the module torch, or None if it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def missing(device: str) -> str:
    """Return what is missing for tensors on the device; the empty string if nothing is."""
    torch = installed_torch()
    if torch is None:
        return "torch is not installed"
    if device == "gpu" and not torch.cuda.is_available():
        return f"no CUDA device is available to torch {torch.__version__}"
    return ""


def bytes_of(shape: tuple[int, ...]) -> int:
    """Return the size of a float32 tensor in bytes."""
    return math.prod(shape) * ITEM_BYTES


def memory_needed(shape: tuple[int, ...], device: str, *, shared: bool) -> int:
    """Return the largest number of bytes of main memory that a row takes at once.

    Shared: the tensor, and its copy in shared memory until the first send has ended. Standard: the tensor and
    a copy in each direction. A tensor of a GPU is itself in GPU memory; its copies, if any, are not.
    """
    copies = {("cpu", True): 2, ("cpu", False): 3, ("gpu", True): 0, ("gpu", False): 2}[device, shared]
    return copies * bytes_of(shape)


async def _obstacle(shape: tuple[int, ...], device: str, max_bytes: float, fleet: Fleet) -> str:
    """Return why the row cannot run now; empty if it can, or if the attempt will give a better reason."""
    if obstacle := missing(device):
        return obstacle
    if bytes_of(shape) > max_bytes:
        return f"larger than --max-tensor-mb {max_bytes / 1e6:g}"
    try:
        await fleet.main.echo(installed_torch().zeros(1, device=DEVICES[device]))
    except TypeError:
        return "this version cannot send tensors"
    except Exception:
        return ""
    return await _memory_obstacle(memory_needed(shape, device, shared=fleet.share_torch), fleet)


async def _memory_obstacle(need: int, fleet: Fleet) -> str:
    end = time.monotonic() + PATIENCE
    while shortage := machine.shortage(need):
        if time.monotonic() > end:
            return shortage
        gc.collect()
        await fleet.main.collect()
        await asyncio.sleep(0.1)
    return ""


def allocate(shape: tuple[int, ...], device: str, empty: Callable[..., Any] | None = None) -> Any:
    """Return a new tensor that `is_like` recognises, made by `empty`, by default torch's."""
    torch = installed_torch()
    if empty is None:
        tensor = torch.empty(shape, dtype=torch.float32, device=DEVICES[device])
    else:
        tensor = empty(*shape, dtype=torch.float32)
    tensor.fill_(-1.0)
    marked = tensor.view(-1)[:: _step(shape)]
    marked.copy_(torch.arange(marked.numel()))
    return tensor


def is_like(shape: tuple[int, ...], device: str, answer: Any) -> bool:
    """Return whether it is a tensor as made by `allocate`, judging by the marked values."""
    torch = installed_torch()
    kind = (tuple(answer.shape), answer.dtype, answer.device.type)
    if kind != (shape, torch.float32, DEVICES[device]):
        return False
    marked = answer.reshape(-1)[:: _step(shape)].cpu()
    return bool(torch.equal(marked, torch.arange(marked.numel(), dtype=torch.float32)))


def _step(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // MARKS)


def _prepare(shape: tuple[int, ...], device: str, fleet: Fleet) -> Operation:
    """Return a round trip of the same tensor each time. First sends are measured in a separate series."""
    torch, extension, host = installed_torch(), fleet.main, fleet.host
    size = bytes_of(shape)
    empty = getattr(pyisolate, "empty", None) if device == "cpu" and fleet.share_torch else None
    # Allocating several GB twice takes minutes in a virtual machine: these are allocated as shared memory.
    held = {"tensor": allocate(shape, device, empty if size > COPY_LIMIT else None)}
    correct = partial(is_like, shape, device)
    pids = {"host": os.getpid(), "extension": fleet.pids[MAIN]}

    async def synchronized() -> Any:
        answer = await extension.echo(held["tensor"])
        torch.cuda.synchronize()  # a copy may still be in progress
        return answer

    copied = device == "gpu" and not fleet.share_torch
    series = {ONE_WAY: timed(lambda: extension.receive(held["tensor"]), bool)}
    if device == "cpu" and size <= COPY_LIMIT:
        series[WARM_COPY] = _copying(held)
    if device == "cpu" and fleet.share_torch and size <= COPY_LIMIT:
        series[FIRST] = _first_sends(extension.receive, held, partial(allocate, shape, device))
    if empty:
        make = partial(allocate, shape, device, empty)
        series[FIRST_EMPTY] = _first_sends(extension.receive, held, make)
        if size <= COPY_LIMIT:
            series[AGAIN_LATER] = _first_sends(extension.receive, held, make, again=True)
    return Operation(
        sample=timed(synchronized if copied else lambda: extension.echo(held["tensor"]), correct),
        sample_local=timed(lambda: host.local_echo(held["tensor"]), correct),
        collect=extension.collect,
        memory=(lambda: machine.memory(pids)) if device == "cpu" and size >= MEMORY_FROM else None,
        series=series,
        series_warmup=size <= COPY_LIMIT,
        size=size,
        timeout_reason="CUDA OOM/Timeout" if device == "gpu" else "Timeout",
    )


def _copying(held: dict[str, Any]) -> Sampler:
    """Return a copy in this process, on one thread, into memory that was copied to just before."""

    async def sample(runs: int) -> list[int]:
        source = held["tensor"].numpy()
        if "copy" not in held:  # new memory is slow, not only at its first use: always use the same
            held["copy"] = np.full_like(source, 0)
        target = held["copy"]
        np.copyto(target, source)
        return await timed_sync(lambda: np.copyto(target, source), lambda _: True)(runs)

    return sample


def _first_sends(
    receive: Callable[[Any], Awaitable[Any]],
    held: dict[str, Any],
    make: Callable[[], Any],
    *,
    again: bool = False,
) -> Sampler:
    """Return an operation that sends a new tensor in each run. It releases the other series' tensor first.

    Small calls before each send wake the other side and let it finish the release of the last tensor. With
    `again` a new tensor is made as well, for its effect on caches, but an old one is sent.
    """

    async def sample(runs: int) -> list[int]:
        old = held.get("old")
        held.clear()
        samples = []
        if again:
            held["old"] = old = make() if old is None else old
            await receive(old)
        for _ in range(runs):
            tensor = make()
            if again:
                tensor = old
            for _ in range(SETTLING):
                await receive(None)
            start = perf_counter_ns()
            await receive(tensor)
            samples.append(perf_counter_ns() - start)
            del tensor
        return samples

    return sample
