"""Long runs that print what they found; a failed call or something left behind is exit status 1.

soak.py load --seconds 3600    mixed load: failed calls, growth of memory and descriptors
soak.py kills --count 10000    processes killed at random moments under load: when their calls ended
soak.py crashes --seconds 60   an extension that crashes in a loop: what the others notice
soak.py references --count 1000000    objects that one makes and the host passes on to another: memory

Extensions are confined, as by default; --sandbox disabled runs them open. Where PyTorch is installed, one of
the mixed load shares tensors.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from soak_host import Board, Refused  # noqa: E402

import pyisolate  # noqa: E402
from pyisolate import (  # noqa: E402
    Extension,
    ExtensionBase,
    ExtensionDied,
    ExtensionManager,
    SandboxMode,
)

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

ARRAY = np.arange(1_000_000)  # 8 MB
POOL = 8  # threads of the loop's pool
GROWTH = 8.0  # MB that a process may gain in a run: the allocators' gaps
USED = 1.0  # MB of that which may be in use in the host; in an hour, a leak of one byte in each call is more


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of the GNU C library, 2.33 or later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def used() -> float:
    """What this process has allocated and not freed, in MB: malloc, and blocks of Python (100 bytes each)."""
    call = getattr(ctypes.CDLL(None), "mallinfo2", None)
    blocks = sys.getallocatedblocks() * 100 / 1e6
    if call is None:
        return blocks
    call.restype = MallInfo
    info = call()
    return float(info.uordblks + info.hblkhd) / 1e6 + blocks


class Fleet:
    """Some extensions of one manager."""

    def __init__(self, folder: str, mode: SandboxMode) -> None:
        self.manager = ExtensionManager(ExtensionBase, {"venv_root_path": folder})
        self.mode = mode

    def load(self, name: str, **config: Any) -> Extension:
        return self.manager.load_extension(
            {
                "name": name,
                "module_path": str(HERE / "worker"),
                "apis": [Board],
                "echo_output": False,
                "sandbox_mode": self.mode,
                **config,  # type: ignore[typeddict-item]
            }
        )

    async def stop(self) -> None:
        await asyncio.to_thread(self.manager.stop_all_extensions)


class Left:
    """What a process has of things that may be left behind."""

    def __init__(self) -> None:
        gc.collect()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.mappings = Path("/proc/self/maps").read_text().count("memfd:piso-")
        self.threads = sum(1 for t in threading.enumerate() if not t.name.startswith("asyncio_"))
        self.children = len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.mappings} shared mappings, {self.threads} threads, "
            f"{self.children} children"
        )

    async def settled(self) -> Left:
        """What is there once it is as before, or after five seconds."""
        for _ in range(100):
            now = Left()
            if now <= self:
                return now
            await asyncio.sleep(0.05)
        return now

    def __le__(self, other: Left) -> bool:
        return all(
            mine <= theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        )


def memory(pid: int) -> float:
    """What a process has of memory that belongs to no file, in MB; of what it shares, its part."""
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def settled_memory(pids: list[int]) -> list[float]:
    """The memory of this process, the first, and of others, without what its allocator keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return [memory(pid) for pid in pids]


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(int(len(times) * share), len(times) - 1)] if times else 0.0


# ---- mixed load ----


async def one_of_everything(extension: Extension) -> int:
    """Makes about 120 calls of all kinds; how many. Raises AssertionError for a wrong answer."""
    assert await extension.echo(1) == 1
    assert await extension.echo({"a": [1.5, "text", None]}) == {"a": [1.5, "text", None]}
    assert await extension.later(2) == 2
    assert await extension.ask(3) == 4
    assert await asyncio.gather(*[extension.echo(number) for number in range(100)]) == list(range(100))
    assert (await extension.echo(ARRAY))[-1] == ARRAY[-1]
    assert await extension.echo(b"x" * 100_000) == b"x" * 100_000
    try:
        await extension.fail()
    except Refused:
        pass
    else:
        raise AssertionError("an exception was lost")
    task = asyncio.ensure_future(extension.later(0, 60))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("a cancellation was lost")
    await extension.say("a line")
    return 112


async def tensors_of_all_kinds(extension: Extension, shared: Any, number: int) -> int:
    """Calls of one that shares tensors: the same again, new ones, a view, its own. How many."""
    shared[0] = number
    await extension.add_one(shared)
    assert int(shared[0]) == number + 1, "what the other side wrote was not seen"
    moved = torch.full((1000,), float(number))
    assert await extension.total(moved) == 1000.0 * number
    made = pyisolate.empty(100_000)
    made[:] = 1.0
    assert await extension.total(made[10:]) == 99_990.0
    back = await extension.echo(made)
    assert back.data_ptr() == made.data_ptr(), "a tensor came back in another memory"
    theirs = await extension.ones(number + 1)
    assert float(theirs.sum()) == number + 1
    return 5


async def come_and_go(fleet: Fleet, over: asyncio.Event) -> int:
    """An extension at a time is loaded, called and stopped. How many were."""
    count = 0
    while not over.is_set():
        extension = fleet.load("guest")
        assert await extension.echo(count) == count
        await asyncio.to_thread(extension.stop)
        count += 1
        await asyncio.sleep(0.2)
    return count


def in_threads(extension: Extension, over: threading.Event, failures: list[str]) -> int:
    count = 0
    while not over.is_set():
        try:
            assert extension.sync.echo(count) == count
            assert extension.sync.ask(count) == count + 1
        except Exception as error:
            failures.append(repr(error))
        count += 2
        time.sleep(0.001)
    return count


async def fill_pool(extension: Extension) -> None:
    """Let each thread of the loop's pool wait once: it then has the descriptor that it is woken by."""
    pool = ThreadPoolExecutor(POOL)
    asyncio.get_running_loop().set_default_executor(pool)
    together = threading.Barrier(POOL)

    def wait_once() -> None:
        together.wait(60)
        assert extension.sync.later(1) == 1

    await asyncio.gather(*(asyncio.to_thread(wait_once) for _ in range(POOL)))


async def run_load(options: argparse.Namespace, fleet: Fleet) -> bool:
    extensions = [fleet.load("forked"), fleet.load("executed", start_method="exec"), fleet.load("threads")]
    sharing = fleet.load("sharing", share_torch=True) if torch else None
    everybody = [*extensions, sharing] if sharing else extensions
    pids = [os.getpid(), *[await extension.pid() for extension in everybody]]
    shared = pyisolate.empty(1_000_000) if torch else None
    failures: list[str] = []
    await fill_pool(extensions[2])
    over, told = threading.Event(), asyncio.Event()
    threads = [asyncio.to_thread(in_threads, extensions[2], over, failures) for _ in range(2)]
    background = asyncio.gather(*threads, come_and_go(fleet, told), return_exceptions=True)
    calls, start = 0, time.monotonic()
    marks: list[tuple[list[float], int, float]] = []
    while (passed := time.monotonic() - start) < options.seconds:
        if passed >= len(marks) * options.seconds / 10:
            marks.append((settled_memory(pids), len(os.listdir("/proc/self/fd")), used()))
            print(
                f"{passed:7.0f} s  {calls:9} calls  {len(failures)} failed  MB {format_sizes(marks[-1][0])}",
                flush=True,
            )
        jobs = [one_of_everything(extension) for extension in everybody]
        if sharing:
            jobs.append(tensors_of_all_kinds(sharing, shared, calls % 1000))
        for result in await asyncio.gather(*jobs, return_exceptions=True):
            if isinstance(result, BaseException):
                failures.append(repr(result))
            else:
                calls += result
    over.set()
    told.set()
    *counts, guests = await background
    for result in (*counts, guests):
        if isinstance(result, BaseException):
            failures.append(repr(result))
    calls += sum(count for count in counts if isinstance(count, int))
    # the first tenth is warm-up: buffers and caches get their size
    growth = [
        end - begin for begin, end in zip(marks[min(1, len(marks) - 1)][0], settled_memory(pids), strict=True)
    ]
    gained = used() - marks[min(1, len(marks) - 1)][2]
    marked = Left()
    marked.descriptors = marks[min(1, len(marks) - 1)][1]
    descriptors = (await marked.settled()).descriptors - marked.descriptors
    status = extensions[0].sandbox_status()
    await fleet.stop()
    print(f"{calls} calls in {options.seconds:g} s, {len(failures)} failed {failures[:3]}")
    print(f"{guests} extensions came and went; confined: {status.confined}")
    print(f"growth of memory after the first tenth, MB: host and extensions {format_sizes(growth)}")
    print(f"of that in use in the host: {gained:.2f}; growth of descriptors: {descriptors}")
    small = max(growth) <= GROWTH and gained <= USED
    return not failures and descriptors <= 0 and (small or options.seconds < 60)


def format_sizes(sizes: list[float]) -> str:
    return " ".join(f"{size:.1f}" for size in sizes)


# ---- kills ----


async def pending_calls(extension: Extension, ended: list[float], wrong: list[str]) -> None:
    """Calls until the process has been killed under them; notes when the last ones ended."""

    async def call(make: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await make()
            except ExtensionDied:
                ended.append(time.monotonic())
                return
            except BaseException as error:
                wrong.append(repr(error))
                return

    kinds: list[Callable[[], Awaitable[object]]] = [
        lambda: extension.echo(1),
        lambda: extension.ask(1),
        lambda: extension.later(1, 30),
        lambda: extension.echo(ARRAY),
        lambda: extension.later(1),
    ]
    await asyncio.gather(*[call(kind) for kind in kinds])


async def kill_again_and_again(
    fleet: Fleet, name: str, counter: list[int], results: dict[str, list[Any]]
) -> None:
    while counter[0] > 0:
        counter[0] -= 1
        extension = fleet.load(name)
        await extension
        pid = extension._runtime._session.pid  # type: ignore[attr-defined]
        ended: list[float] = []
        killed: list[float] = []

        def kill(pid: int = pid, killed: list[float] = killed) -> None:
            time.sleep(random.random() * 0.03)
            killed.append(time.monotonic())
            os.kill(pid, 9)

        thread = threading.Thread(target=kill)
        thread.start()
        await pending_calls(extension, ended, results["wrong"])
        thread.join()
        results["times"] += [moment - killed[0] for moment in ended]
        await asyncio.to_thread(extension.stop)


async def run_kills(options: argparse.Namespace, fleet: Fleet) -> bool:
    results: dict[str, list[Any]] = {"times": [], "wrong": []}
    await kill_again_and_again(fleet, "first", [1], results)
    await asyncio.sleep(1)
    before = Left()
    counter = [options.count]
    await asyncio.gather(
        *[kill_again_and_again(fleet, f"killed{index}", counter, results) for index in range(3)]
    )
    after = await before.settled()
    times = results["times"]
    late = sum(1 for seconds in times if seconds > 0.1)
    wrong = results["wrong"]
    print(f"{options.count} kills, {len(times)} pending calls; {len(wrong)} ended otherwise {wrong[:3]}")
    print(
        f"ended after the kill: median {percentile(times, 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(times, 0.99) * 1e3:.1f} ms, longest {max(times) * 1e3:.1f} ms; "
        f"{late} after more than 100 ms"
    )
    print(f"before: {before}\nafter:  {after}")
    return not wrong and after <= before


# ---- a crash loop beside ----


async def measure(extensions: list[Extension], seconds: float, failures: list[str]) -> list[float]:
    times: list[float] = []

    async def calls(extension: Extension) -> None:
        end = time.monotonic() + seconds
        while (start := time.perf_counter()) and time.monotonic() < end:
            try:
                assert await extension.later(5, 0) == 5
            except Exception as error:
                failures.append(repr(error))
            times.append(time.perf_counter() - start)
            await asyncio.sleep(0.0005)

    await asyncio.gather(*[calls(extension) for extension in extensions])
    return times


async def crash(extension: Extension, over: asyncio.Event) -> int:
    count = 0
    while not over.is_set():
        try:
            await extension.exit()
        except ExtensionDied:
            count += 1
            await asyncio.sleep(0.05)
    return count


async def run_crashes(options: argparse.Namespace, fleet: Fleet) -> bool:
    healthy = [fleet.load("first"), fleet.load("second")]
    for extension in healthy:
        await extension
    failures: list[str] = []
    await measure(healthy, 0.5, failures)
    alone = await measure(healthy, options.seconds / 2, failures)
    crasher = fleet.load("crasher", restart={"limit": 1_000_000, "delay": options.delay})
    over = asyncio.Event()
    crashing = asyncio.ensure_future(crash(crasher, over))
    beside = await measure(healthy, options.seconds / 2, failures)
    over.set()
    await crashing
    await fleet.stop()
    ratio = percentile(beside, 0.99) / percentile(alone, 0.99)
    print(f"{len(alone) + len(beside)} calls beside {crasher.generation} generations of one that crashes")
    print(f"{len(failures)} failed {failures[:3]}")
    print(
        f"p99 alone {percentile(alone, 0.99) * 1e6:.0f} us, "
        f"beside the crash loop {percentile(beside, 0.99) * 1e6:.0f} us: ratio {ratio:.2f}"
    )
    return not failures and crasher.generation > 1


# ---- references ----

AT_ONCE = 100  # references in a message


async def pass_on(owner: Extension, holder: Extension, count: int) -> None:
    """Make references, send them to the host and on to the holder, use and drop them; so with functions."""
    for start in range(0, count, AT_ONCE):
        refs = await owner.make_objects(AT_ONCE)
        functions = [lambda x, n=start + n: x + n for n in range(AT_ONCE)]
        assert await holder.hold(refs, functions) == [start + 1, start + AT_ONCE, AT_ONCE - 1]


async def leases(extension: Extension) -> list[int]:
    """What the extension and the host hold of each other, once messages on the way have been read."""
    for _ in range(100):
        gc.collect()
        theirs = await extension.leases()
        stats = extension._runtime._session.stats()  # type: ignore[attr-defined]
        found = [stats["leases_given"], stats["leases_held"], *theirs]
        if not any(found):
            break
    return found


async def run_references(options: argparse.Namespace, fleet: Fleet) -> bool:
    owner, holder = fleet.load("owner"), fleet.load("holder")
    pids = [os.getpid(), await owner.pid(), await holder.pid()]
    marks = []
    for _ in range(11):  # the first part is warm-up: buffers and tables get their size
        await pass_on(owner, holder, max(options.count // 11, AT_ONCE))
        await holder.hold([], [])
        marks.append(settled_memory(pids))
    left = [await leases(extension) for extension in (owner, holder)]
    await fleet.stop()
    growth = [end - begin for begin, end in zip(marks[0], marks[-1], strict=True)]
    print(f"{options.count} references and as many functions; leases that are left: {left}")
    print(f"MB after each part, host, owner, holder: {'; '.join(map(format_sizes, marks))}")
    print(f"growth after the first part, MB: {format_sizes(growth)}")
    return not any(map(any, left)) and (max(growth) <= 1.0 or options.count < 100_000)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sandbox", choices=[mode.value for mode in SandboxMode], default="required")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("load").add_argument("--seconds", type=float, default=3600.0)
    commands.add_parser("kills").add_argument("--count", type=int, default=10_000)
    crashes = commands.add_parser("crashes")
    crashes.add_argument("--seconds", type=float, default=60.0)
    crashes.add_argument(
        "--delay", type=float, default=0.1, help="before the first restart; doubles each time"
    )
    commands.add_parser("references").add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    logging.getLogger("pyisolate").setLevel(logging.CRITICAL)  # what it says is expected here
    runs = {"load": run_load, "kills": run_kills, "crashes": run_crashes, "references": run_references}
    run = runs[options.command]
    with tempfile.TemporaryDirectory(prefix="pyisolate-soak-") as folder:
        return 0 if asyncio.run(run(options, Fleet(folder, SandboxMode(options.sandbox)))) else 1


if __name__ == "__main__":
    sys.exit(main())
