"""Sharing GPU memory between processes, with a mock of CUDA's driver whose memory is the CPU's.

tests/gpu tests real GPUs. Each test is a separate program, because a driver is loaded once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import paths
import pytest

from pyisolate import _core

pytest.importorskip("torch", reason="PyTorch is not installed")

HERE = paths.HERE
COMPILER = shutil.which("cc")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler for the mock of the driver"),
    pytest.mark.skipif(not _core.HAS_GPU, reason="this build has no support for GPUs"),
]

HEAD = f"""
import gc, sys, time, warnings
sys.path.insert(0, {str(paths.HELPERS)!r})
import torch
import pretended_gpu
from pyisolate import *
import os
HERE, DRIVER = {str(HERE)!r}, os.environ["LD_LIBRARY_PATH"]

pretended_gpu.pretend_sharing(setattr)
manager = ExtensionManager(ExtensionBase, {{"venv_root_path": sys.argv[1]}})

def load(name, **config):
    extension = manager.load_extension({{
        "name": name, "module_path": {str(HERE / "extensions" / "tensors")!r}, "share_torch": True,
        "share_cuda_ipc": True, "sandbox_mode": SandboxMode.DISABLED, **config}})
    extensions[name] = extension
    extension.sync.pretend_sharing()
    return extension.sync

def eventually(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

def alive(weak):
    one.echo(0)  # what has been given back arrives with the next message
    gc.collect()
    return weak() is not None

import weakref
extensions = {{}}
one = load("one")
mock = pretended_gpu.mock()
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libcuda.so.1."""
    folder = tmp_path_factory.mktemp("driver")
    source = paths.ROOT / "tests" / "c" / "mock_cuda.c"
    options = ["-shared", "-fPIC", "-D_GNU_SOURCE", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([str(COMPILER), *options, "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    return folder


@pytest.fixture
def run(driver: Path, tmp_path: Path) -> Callable[[str], None]:
    def run(text: str) -> None:
        program = tmp_path / "program.py"
        body = textwrap.indent(HEAD + textwrap.dedent(text) + "\nmanager.stop_all_extensions()\n", "    ")
        program.write_text(f"if __name__ == '__main__':\n{body}")
        done = subprocess.run(
            [sys.executable, str(program), str(tmp_path / "venvs")],
            env={**os.environ, "LD_LIBRARY_PATH": str(driver)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def test_both_sides_have_one_memory(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    for i in range(3):
        assert one.total(t) == 3000
    one.fill(t, 7)
    assert t.sum() == 7000
    assert one.total(t[10:20]) == 70
    assert one.same_storage(t[:10], t[500:])
    assert one.describe(t.reshape(10, 100).t())[3] == (1, 100)
    assert one.describe(torch.nn.Parameter(t))[0] == "Parameter"
    back = one.echo(t[5:])
    assert back.data_ptr() == t[5:].data_ptr()
    assert mock.opens == 0 and mock.handles == 1
    counts = one.mock_counts()
    assert counts["event_opens"] == 1
    assert counts["opens"] == 1 and counts["closes"] == 0
    assert mock.context_depth == 0
    """)


def test_what_is_sent_again_is_not_opened_again(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    for i in range(20):
        assert one.total(t[i:]) == 3 * (1000 - i)
    u = one.make_pretended(1000, 2)
    for i in range(20):
        del u
        gc.collect()
        u = one.held_again(0)
    assert u.sum() == 2000
    counts = one.mock_counts()
    assert (counts["opens"], counts["closes"], counts["handles"]) == (1, 0, 1), counts
    assert (mock.opens, mock.closes, mock.handles) == (1, 0, 1)
    """)


def test_what_its_owner_frees_is_closed(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    view = t[10:]
    assert one.total(t) == 3000
    del t
    gc.collect()
    assert one.total(view) == 2970
    assert one.mock_counts()["closes"] == 0
    del view
    eventually(lambda: (gc.collect(), one.mock_counts()["closes"] == 1)[-1])
    u = one.make_pretended(1000, 2)
    assert u.sum() == 2000
    one.release()  # not while it is held here
    assert u.sum() == 2000 and mock.closes == 0
    del u
    eventually(lambda: (gc.collect(), one.echo(0), mock.closes == 1)[-1])
    """)


def test_what_came_from_an_extension_that_ended_is_closed(run: Callable[[str], None]) -> None:
    run("""
    two = load("two")
    t, u = two.make_pretended(1000, 2), two.make_pretended(1000, 3)
    del t
    gc.collect()
    assert (mock.opens, mock.closes) == (2, 0)
    try:
        two.exit()
    except ExtensionDied:
        pass
    eventually(lambda: mock.closes == 1)
    del u
    eventually(lambda: (gc.collect(), mock.closes == 2)[-1])
    """)


def test_a_stream_that_has_done_all_costs_no_event(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    mock.idle = True
    one.set_mock("idle", True)
    assert one.total(t) == 3000
    assert one.echo(t).sum() == 3000
    assert mock.events == mock.waits == mock.drains == 0
    counts = one.mock_counts()
    assert counts["events"] == counts["event_opens"] == counts["waits"] == counts["drains"] == 0
    mock.idle = False
    one.set_mock("events_pending", True)
    assert one.total(t) == 3000
    counts = one.mock_counts()
    assert mock.events == 1 and counts["waits"] == 1
    """)


def test_a_call_is_answered_when_what_it_wrote_is_there(run: Callable[[str], None]) -> None:
    """Also if the extension keeps the tensor, so that the call returns no memory."""
    run("""
    t = pretended_gpu.make(1000, 3)
    one.fill(t, 4)
    assert one.mock_counts()["synchronisations"] == 1  # it was dropped
    one.hold(t)
    assert one.mock_counts()["drains"] == 0
    one.fill(t, 5)
    assert one.mock_counts()["drains"] == 1
    assert one.half(t).sum() == 2500
    one.set_mock("idle", True)
    before = one.mock_counts()["drains"]
    one.fill(t, 6)
    assert one.mock_counts()["drains"] == before
    """)


def test_an_answer_that_another_thread_reads_is_waited_for(run: Callable[[str], None]) -> None:
    """Each thread has its own current stream: that of the reader differs from the caller's."""
    run("""
    import asyncio, threading
    mock.events_pending = True

    async def get(call):
        return await call

    call = extensions["one"].make_pretended(1000, 2)

    def read():
        while not mock.waits:  # the answer may come after that of an echo
            one.echo(0)

    reader = threading.Thread(target=read)
    reader.start()
    reader.join()
    assert (mock.waits, mock.drains) == (1, 1)
    assert asyncio.run(get(call)).sum() == 2000
    """)


def test_a_confined_extension_shares_without_events(run: Callable[[str], None]) -> None:
    run("""
    memory = os.path.join(DRIVER, "memory")
    os.makedirs(memory)
    os.environ["CUDA_MOCK_FOLDER"] = memory
    two = load("two", sandbox_mode=SandboxMode.REQUIRED, env={"CUDA_MOCK_FOLDER": memory},
               sandbox={"readonly_paths": [DRIVER, HERE], "writable_paths": [memory]})
    mock.no_shm = True
    two.set_mock("no_shm", True)
    t = pretended_gpu.make(1000, 3)
    assert two.describe(t)[1] == "torch.float32"
    assert mock.events == 0 and mock.drains == 1  # what the device has not written is waited for here
    back = two.echo(t)
    assert back.data_ptr() == t.data_ptr()
    assert two.mock_counts()["events"] == 0
    assert two.mock_counts()["drains"] == 1
    """)


def test_a_capture_into_a_graph_goes_on(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    u = one.make_pretended(1000, 2)
    before = mock.synchronisations
    mock.capturing = True
    try:
        one.total(t)
        raise AssertionError
    except RuntimeError as error:
        assert "captured into a graph" in str(error)
    del u  # given back later: the device cannot be waited for now
    gc.collect()
    assert mock.synchronisations == before and mock.forbidden == 0
    assert one.held_total() == 2000
    mock.capturing = False
    assert one.held_again(0).sum() == 2000
    gc.collect()
    assert mock.synchronisations > before
    assert mock.forbidden == 0
    """)


def test_a_broken_gpu_is_told(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    mock.fault = 700
    try:
        one.total(t)
        raise AssertionError
    except RuntimeError as error:
        assert "restart the process" in str(error) and "700" in str(error), error
    """)


def test_it_is_kept_until_the_other_side_lets_go(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    weak = weakref.ref(t.untyped_storage())
    one.hold(t)
    del t
    assert alive(weak)
    assert one.held_total() == 3000
    one.release()
    eventually(lambda: not alive(weak))
    assert one.mock_counts()["opens"] == 1
    eventually(lambda: one.mock_counts()["closes"] == 1)
    """)


def test_it_is_sent_on_under_its_first_handle(run: Callable[[str], None]) -> None:
    run("""
    two = load("two")
    t = one.make_pretended(1000, 3)
    two.hold(t)
    del t
    gc.collect()
    assert two.held_total() == 3000
    two.fill_held(5)
    assert one.held_total() == 5000
    assert two.mock_counts()["handles"] == 0
    back = two.held_again(0)
    one.fill(back, 6)
    assert two.held_total() == 6000
    assert mock.opens == 1 and mock.closes == 0 and mock.handles == 0
    two.release()
    del back
    eventually(lambda: (two.echo(0), gc.collect(), mock.closes == 1)[-1])
    """)


def test_the_death_of_a_holder_gives_it_back(run: Callable[[str], None]) -> None:
    run("""
    two = load("two")
    t = pretended_gpu.make(1000, 3)
    weak = weakref.ref(t.untyped_storage())
    two.hold(t)
    del t
    assert alive(weak)
    try:
        two.exit()
    except ExtensionDied:
        pass
    eventually(lambda: not alive(weak))
    """)


def test_a_failed_send_keeps_nothing(run: Callable[[str], None]) -> None:
    run("""
    t = pretended_gpu.make(1000, 3)
    weak = weakref.ref(t.untyped_storage())
    try:
        one.echo(t, object())
    except TypeError:
        pass
    del t
    eventually(lambda: not alive(weak))
    """)


def test_memory_without_a_handle_is_copied_with_one_warning(run: Callable[[str], None]) -> None:
    run("""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(3):
            t = pretended_gpu.make(1000, i, exportable=False)
            assert one.total(t) == 1000 * i
    assert ["expandable_segments" in str(w.message) for w in caught] == [True]
    one.fill(t, 9)
    assert t.sum() == 2000
    """)


def test_no_memory_to_open_it_is_an_error_of_that_call(run: Callable[[str], None]) -> None:
    run("""
    t = one.make_pretended(10, 1)
    assert t.sum() == 10
    del t
    gc.collect()
    mock.no_memory = True
    for i in range(3):
        try:
            one.make_pretended(10, 1)
            raise AssertionError
        except torch.OutOfMemoryError:
            pass
    mock.no_memory = False
    assert one.held_again(0).sum() == 10
    """)


def test_an_extension_that_cannot_open_it_gets_copies(run: Callable[[str], None]) -> None:
    """Containers and virtual machines may forbid it. The first call shows that, and later ones copy."""
    run("""
    t = pretended_gpu.make(1000, 3)
    one.set_mock("no_opening", True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            one.total(t)
            raise AssertionError
        except RuntimeError as error:
            assert "801" in str(error) and "call again" in str(error), error
        for i in range(3):
            assert one.total(t) == 3000
    assert ["801" in str(w.message) for w in caught] == [True]
    one.fill(t, 9)
    assert t.sum() == 3000
    assert mock.events == 1
    assert one.make_pretended(1000, 2).sum() == 2000 and mock.opens == 1  # the other way round it works
    """)


def test_a_host_that_cannot_open_it_gets_copies(run: Callable[[str], None]) -> None:
    run("""
    mock.no_opening = True
    try:
        one.make_pretended(1000, 2)
        raise AssertionError
    except RuntimeError as error:
        assert "call again" in str(error), error
    for i in range(3):
        assert one.held_again(0).sum() == 2000
    mock.no_opening = False
    assert one.held_again(0).sum() == 2000
    assert mock.opens == 0
    """)


def test_devices_have_the_number_of_the_receiver(run: Callable[[str], None]) -> None:
    run("""
    from conversion import decode, ext
    from pyisolate._core import Registry, _encode
    device = torch.device("cuda", 1)
    assert bytes(16 * [0xA1]) in _encode(device, Registry())
    assert one.echo([device, torch.device("cuda")]) == [device, torch.device("cuda")]
    assert decode(ext("torch", ["device", "cuda", 0, bytes(16 * [0xA1])])) == device
    assert decode(ext("torch", ["device", "cuda", 1, bytes(16 * [0xA0])])) == torch.device("cuda", 0)
    try:
        decode(ext("torch", ["device", "cuda", 1, bytes(range(16))]))
    except RuntimeError as error:
        assert "torch.device('cuda:1'), which is GPU-00010203-0405-0607-0809-0a0b0c0d0e0f" in str(error)
        assert "CUDA_VISIBLE_DEVICES" in str(error)
    else:
        raise AssertionError("a device that is not here")
    assert torch.device("cuda", 5) == decode(_encode(torch.device("cuda", 5), Registry()))
    """)


def test_devices_pass_through_a_process_without_a_gpu(run: Callable[[str], None]) -> None:
    run("""
    blind = manager.load_extension({
        "name": "blind", "module_path": HERE + "/extensions/tensors", "env": {"CUDA_VISIBLE_DEVICES": ""},
        "sandbox_mode": SandboxMode.DISABLED}).sync
    device = torch.device("cuda", 1)
    assert blind.echo(device) == device
    """)
