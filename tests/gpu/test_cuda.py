"""Tensors of a GPU between processes. Runs whole on a machine with an NVIDIA GPU: ``tools/test-gpu``.

Not run on a GPU yet: where there is none all of it is skipped.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyisolate import Extension, ExtensionBase, ExtensionDied, ExtensionManager, SandboxMode

HERE = Path(__file__).parent
MIB = 1 << 20
LARGE = 64 * MIB
"""Elements of a tensor whose loss shows: 256 MiB of float32."""
TOLERANCE = 128 * MIB
"""Bytes: the driver loads kernels when they are first used."""


def _why_skip() -> str | None:
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if torch.version.cuda is None:
        return "this PyTorch has no CUDA"
    if not torch.cuda.is_available():
        return "there is no GPU of NVIDIA here"
    return None


WHY_SKIP = _why_skip()
pytestmark = pytest.mark.skipif(WHY_SKIP is not None, reason=WHY_SKIP or "")

if WHY_SKIP is None:
    import torch
else:
    torch: Any = None


# ---- tools ----


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def used() -> int:
    """Bytes of the device that are in use, by all processes: by NVML, or else by the driver."""
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:
        free, total = torch.cuda.mem_get_info(0)
        return int(total - free)


def load_one(root: Path, name: str, **config: Any) -> tuple[ExtensionManager[Any], Extension]:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(root)})
    settings: dict[str, Any] = {
        "name": name,
        "module_path": str(HERE / "extensions" / "gpu"),
        "sandbox_mode": SandboxMode.DISABLED,
        "share_torch": True,
        **config,
    }
    return manager, manager.load_extension(settings)  # type: ignore[arg-type]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Extension]]:
    """load(**configuration): an extension of this test's own."""
    managers = []

    def load(**config: Any) -> Extension:
        manager, extension = load_one(tmp_path, "own", **config)
        managers.append(manager)
        return extension

    yield load
    for manager in managers:
        manager.stop_all_extensions()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Extension]]:
    """Two extensions that share memory of GPUs, and one that copies, with their contexts made."""
    root = tmp_path_factory.mktemp("venvs")
    loaded = {
        name: load_one(root, name, share_cuda_ipc=name != "copying")
        for name in ("first", "second", "copying")
    }
    for _, extension in loaded.values():
        assert extension.sync.total(torch.ones(5, device="cuda")) == 5
        extension.sync.release()
    yield {name: extension for name, (_, extension) in loaded.items()}
    for manager, _ in loaded.values():
        manager.stop_all_extensions()


@pytest.fixture
def gpu(running: dict[str, Extension]) -> Any:
    return running["first"].sync


@pytest.fixture
def other(running: dict[str, Extension]) -> Any:
    return running["second"].sync


@pytest.fixture
def copying(running: dict[str, Extension]) -> Any:
    return running["copying"].sync


@pytest.fixture(params=["first", "copying"], ids=["shared", "copied"])
def either(request: pytest.FixtureRequest, running: dict[str, Extension]) -> Any:
    return running[request.param].sync


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the device has the memory that it had before, but for kernels that were loaded."""
    if "running" not in request.fixturenames or WHY_SKIP is not None:
        yield
        return
    running: dict[str, Extension] = request.getfixturevalue("running")
    before = used()
    yield

    def settled() -> bool:
        for extension in running.values():  # what was given back arrives with the calls
            extension.sync.release()
        return used() <= before + TOLERANCE

    assert eventually(settled), f"{(used() - before) / MIB:.1f} MiB are left"


# ---- values ----


def comparable(t: Any) -> Any:
    """Its values in a dtype that every operation has."""
    plain = t.detach()
    return plain.view(torch.uint8) if plain.dtype.itemsize == 1 else plain.to(torch.complex128)


def samples() -> list[tuple[str, Callable[[], Any]]]:
    return [
        ("float32", lambda: torch.arange(12.0, device="cuda").reshape(3, 4)),
        ("bfloat16", lambda: torch.ones(3, 4, dtype=torch.bfloat16, device="cuda")),
        ("float8", lambda: torch.ones(8, device="cuda").to(torch.float8_e4m3fn)),
        ("int64", lambda: torch.arange(12, device="cuda")),
        ("bool", lambda: torch.ones(3, dtype=torch.bool, device="cuda")),
        ("complex", lambda: torch.ones(3, dtype=torch.complex64, device="cuda")),
        ("transposed", lambda: torch.arange(60.0, device="cuda").reshape(6, 10).t()),
        ("block", lambda: torch.arange(60.0, device="cuda").reshape(6, 10)[1:4, 2:7]),
        ("expanded", lambda: torch.ones(3, 1, device="cuda").expand(3, 50)),
        (
            "channels last",
            lambda: torch.ones(2, 3, 4, 5, device="cuda").to(memory_format=torch.channels_last),
        ),
        ("scalar", lambda: torch.tensor(5.0, device="cuda")),
        ("nothing", lambda: torch.empty(2, 0, 3, device="cuda")),
        ("gradient", lambda: torch.ones(3, device="cuda", requires_grad=True)),
        ("parameter", lambda: torch.nn.Parameter(torch.ones(2, 2, device="cuda"))),
        ("frozen", lambda: torch.nn.Parameter(torch.ones(2, 2, device="cuda"), requires_grad=False)),
        ("conjugate", lambda: torch.tensor([1 + 2j, 3 - 1j], device="cuda").conj()),
        ("negative", lambda: torch.tensor([1 + 2j, 3 - 1j], device="cuda").conj().imag),
        ("large", lambda: torch.ones(3000, 1000, device="cuda")),
    ]


@pytest.mark.parametrize("make", [make for _, make in samples()], ids=[name for name, _ in samples()])
def test_survives(either: Any, make: Callable[[], Any]) -> None:
    t = make()
    kind = "Parameter" if isinstance(t, torch.nn.Parameter) else "Tensor"
    expected = (
        kind,
        str(t.dtype),
        "cuda",
        tuple(t.shape),
        t.stride(),
        t.requires_grad,
        t.is_conj(),
        t.is_neg(),
    )
    assert either.describe(t) == expected
    back = either.echo(t)
    assert type(back) is type(t)
    assert (back.dtype, back.device, back.shape, back.stride()) == (t.dtype, t.device, t.shape, t.stride())
    assert back.requires_grad == t.requires_grad
    assert torch.equal(comparable(back), comparable(t))


def test_gradients(either: Any) -> None:
    t = torch.ones(3, device="cuda", requires_grad=True)
    assert either.backward(t).tolist() == [3, 3, 3]


def test_results_of_autograd_are_refused(either: Any) -> None:
    with pytest.raises(TypeError, match="detach"):
        either.echo(torch.ones(3, device="cuda", requires_grad=True) * 2)


# ---- order ----


@pytest.mark.parametrize("side_stream", [False, True])
def test_what_the_device_is_still_writing_arrives_written(either: Any, side_stream: bool) -> None:
    t = torch.zeros(MIB, device="cuda")
    torch.cuda.synchronize()
    for value in range(1, 6):
        stream = torch.cuda.Stream() if side_stream else torch.cuda.current_stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(100_000_000)
            t.fill_(value)
            assert either.total(t) == value * MIB
        torch.cuda.synchronize()


def test_what_the_extension_is_still_writing_arrives_written(either: Any) -> None:
    for value in range(1, 6):
        assert float(either.make_slowly(MIB, value).double().sum()) == value * MIB


def test_many_sends_on_many_streams(gpu: Any) -> None:
    streams = [torch.cuda.Stream() for _ in range(8)]
    tensors = [torch.zeros(1000, device="cuda") for _ in streams]
    torch.cuda.synchronize()
    for value in range(1, 20):
        for stream, t in zip(streams, tensors, strict=True):
            with torch.cuda.stream(stream):
                torch.cuda._sleep(1_000_000)
                t.fill_(value)
                assert gpu.total(t) == value * 1000


# ---- one memory ----


def test_both_sides_see_each_others_writes(gpu: Any) -> None:
    t = torch.zeros(1000, device="cuda")
    gpu.hold(t)
    for value in range(1, 8):
        gpu.fill_slowly(t, value)  # answered when it is written, although the extension holds it
        assert t.sum() == 1000 * value
    t.fill_(2)
    torch.cuda.synchronize()
    assert gpu.held_total() == 2000


def test_without_sharing_they_do_not(copying: Any) -> None:
    t = torch.zeros(1000, device="cuda")
    copying.fill(t, 7)
    assert t.sum() == 0


def test_a_tensor_that_comes_back_is_the_same_memory(gpu: Any) -> None:
    t = torch.zeros(1000, device="cuda")
    assert gpu.echo(t).data_ptr() == t.data_ptr()
    assert gpu.echo(t[10:20]).data_ptr() == t[10:20].data_ptr()


def test_a_capture_goes_on_beside_tensors_that_come_and_go(gpu: Any) -> None:
    t, kept = gpu.make(1000, 2), torch.zeros(1000, device="cuda")
    graph = torch.cuda.CUDAGraph()
    kept.add_(1)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        kept.add_(1)
        with pytest.raises(RuntimeError, match="captured into a graph"):
            gpu.total(kept)
        del t
        kept.add_(1)
    graph.replay()
    assert kept.sum() == 3000
    assert gpu.total(kept) == 3000
    gpu.release()


def test_views_of_one_storage_stay_views_of_one_storage(gpu: Any) -> None:
    t = torch.zeros(100, device="cuda")
    assert gpu.same_storage(t[:50], t[50:])
    assert not gpu.same_storage(t, torch.zeros(100, device="cuda"))
    a, b = gpu.echo((t[:50], t[50:]))
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def test_forwarding_copies_nothing(gpu: Any, other: Any) -> None:
    t = gpu.make(LARGE, 3)
    other.hold(t)
    assert other.held_total() == 3 * LARGE
    other.fill(t, 4)
    assert gpu.held_total() == 4 * LARGE
    del t
    gc.collect()
    gpu.release()
    assert other.held_total() == 4 * LARGE


def test_one_allocation_is_opened_once(gpu: Any) -> None:
    """Also with many small tensors, which lie in the same block of the allocator."""
    tensors = [torch.full((10,), float(i), device="cuda") for i in range(500)]
    gpu.hold(*tensors)
    assert gpu.held_total() == sum(range(500)) * 10


# ---- lifetimes ----


def test_the_producer_frees_first(gpu: Any) -> None:
    t = torch.full((LARGE,), 3.0, device="cuda")
    gpu.hold(t)
    del t
    gc.collect()
    torch.cuda.empty_cache()
    others = [torch.zeros(MIB, device="cuda") for _ in range(20)]
    torch.cuda.synchronize()
    assert gpu.held_total() == 3 * LARGE
    del others


def test_the_extension_frees_first(gpu: Any) -> None:
    t = gpu.make(LARGE, 3)
    gpu.release()
    assert t.double().sum() == 3 * LARGE


def test_a_consumer_that_is_killed_gives_back_what_it_held(load: Callable[..., Extension]) -> None:
    torch.ones(1, device="cuda").double().sum()
    before = used()
    extension = load(share_cuda_ipc=True)
    t = torch.ones(LARGE, device="cuda")
    extension.sync.hold(t)
    assert extension.sync.held_total() == LARGE
    os.kill(extension.sync.pid(), signal.SIGKILL)
    assert t.double().sum() == LARGE
    del t
    with pytest.raises(ExtensionDied):
        extension.sync.pid()
    assert eventually(lambda: used() <= before + TOLERANCE)


def test_a_producer_that_ends_takes_its_memory_with_it(load: Callable[..., Extension]) -> None:
    """And what is left of it here is dropped without harm."""
    extension = load(share_cuda_ipc=True)
    t = extension.sync.make(1000, 3)
    assert t.sum() == 3000
    os.kill(extension.sync.pid(), signal.SIGKILL)
    with pytest.raises(ExtensionDied):
        extension.sync.pid()
    del t
    gc.collect()
    torch.cuda.synchronize()
    assert torch.ones(1000, device="cuda").sum() == 1000


def test_a_thousand_tensors_do_not_grow_memory(gpu: Any) -> None:
    def round_trip() -> None:
        t = torch.ones(MIB, device="cuda")
        assert gpu.total(t) == MIB

    for _ in range(10):
        round_trip()
    before = used()
    for _ in range(1000):
        round_trip()
    assert eventually(lambda: used() <= before + TOLERANCE)


# ---- memory that is exhausted ----


def test_out_of_memory_in_the_extension(either: Any) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        either.too_much()
    assert either.total(torch.ones(5, device="cuda")) == 5


def test_no_memory_for_a_copy_there(copying: Any) -> None:
    t = torch.ones(256 * MIB, dtype=torch.uint8, device="cuda")
    copying.fill_memory()
    try:
        with pytest.raises(torch.OutOfMemoryError):
            copying.total(t)
    finally:
        copying.free_memory()
    assert copying.total(torch.ones(5, device="cuda")) == 5


def test_no_memory_for_a_result_here(copying: Any) -> None:
    copying.make(64 * MIB, 1)
    ballast: list[Any] = []
    try:
        for size in (1 << 30, 1 << 26, 1 << 22):
            while True:
                try:
                    ballast.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
                except torch.OutOfMemoryError:
                    break
        with pytest.raises(torch.OutOfMemoryError):
            copying.again()
    finally:
        ballast.clear()
        torch.cuda.empty_cache()
    assert copying.total(torch.ones(5, device="cuda")) == 5


# ---- what cannot be shared ----


def run_program(tmp_path: Path, text: str, **env: str) -> str:
    """A host with another environment: its output."""
    program = tmp_path / "program.py"
    head = f"""
    import sys, warnings
    from pathlib import Path
    sys.path.insert(0, {str(HERE)!r})
    import torch
    from test_cuda import load_one
    root = Path({str(tmp_path)!r})
    """
    program.write_text(
        "if __name__ == '__main__':\n"
        + textwrap.indent(textwrap.dedent(head) + textwrap.dedent(text), "    ")
        + "\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("setting", ["expandable_segments:True", "backend:cudaMallocAsync"])
def test_memory_without_handles_is_copied_with_one_warning(tmp_path: Path, setting: str) -> None:
    text = """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager, extension = load_one(root, "one", share_cuda_ipc=True)
        for _ in range(3):
            t = torch.ones(1000, device="cuda")
            assert extension.sync.total(t) == 1000
            assert extension.sync.echo(t).sum() == 1000
    for w in caught:
        if "share_cuda_ipc" in str(w.message):
            print(w.message)
    manager.stop_all_extensions()
    """
    lines = run_program(tmp_path, text, PYTORCH_CUDA_ALLOC_CONF=setting).splitlines()
    assert len(lines) == 1
    assert setting.lower() in lines[0].lower()


def test_an_extension_that_sees_no_gpu(load: Callable[..., Extension]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extension = load(share_cuda_ipc=True, env={"CUDA_VISIBLE_DEVICES": ""})
        assert extension.sync.echo(torch.ones(3)).sum() == 3  # an extension starts with its first call
    assert sum("share_cuda_ipc" in str(w.message) for w in caught) == 1
    with pytest.raises(RuntimeError, match="GPU-"):
        extension.sync.echo(torch.ones(3, device="cuda"))
    assert extension.sync.echo(torch.ones(3)).sum() == 3


@pytest.mark.parametrize("share", [False, True])
def test_devices_with_other_numbers(load: Callable[..., Extension], share: bool) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    extension = load(share_cuda_ipc=share, env={"CUDA_VISIBLE_DEVICES": "1,0"})
    t = torch.full((10,), 4.0, device="cuda:1")
    assert extension.sync.device_index(t) == 0
    assert extension.sync.total(t) == 40
    assert extension.sync.echo(t).device == torch.device("cuda", 1)
