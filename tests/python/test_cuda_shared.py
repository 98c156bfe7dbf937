"""Memory of GPUs between processes, with a mock of CUDA's driver and memory of the CPU in place of a GPU's.

What a real GPU does is tested by tests/gpu. Each test is a program of its own: a driver is loaded once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler for the mock of the driver")

HEAD = f"""
import gc, sys, time, warnings
sys.path.insert(0, {str(HERE)!r})
import torch
import pretended_gpu
from pyisolate import *

pretended_gpu.pretend_sharing(setattr)
manager = ExtensionManager(ExtensionBase, {{"venv_root_path": sys.argv[1]}})

def load(name, **config):
    extension = manager.load_extension({{
        "name": name, "module_path": {str(HERE / "extensions" / "tensors")!r}, "share_torch": True,
        "share_cuda_ipc": True, "sandbox_mode": SandboxMode.DISABLED, **config}})
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
one = load("one")
mock = pretended_gpu.mock()
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libcuda.so.1."""
    folder = tmp_path_factory.mktemp("driver")
    source = HERE.parent / "c" / "mock_cuda.c"
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
    assert counts["event_opens"] == 1 and counts["waits"] > 3
    assert counts["opens"] == counts["closes"] > 0
    assert mock.context_depth == 0
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
    assert one.mock_counts()["closes"] == 1
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
            one.held_again(0)
            raise AssertionError
        except torch.OutOfMemoryError:
            pass
    mock.no_memory = False
    assert one.held_again(0).sum() == 10
    """)
