"""What a GPU's driver needs in a sandbox, tested without a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from internals import NAMESPACES, leave_out
from possible import can_open_terminals

import pyisolate._sandbox.policy
from pyisolate import Extension

Load = Callable[..., Extension]

DENIED = {"EACCES", "EPERM"}
OUT_OF_REACH = DENIED | {"EROFS"}
HIDDEN = DENIED | {"ENOENT"}


@pytest.mark.parametrize("omitted", [(), (NAMESPACES,)], ids=["all layers", "no namespaces"])
def test_threads_can_be_named_where_there_are_devices(
    load: Load, monkeypatch: pytest.MonkeyPatch, omitted: tuple[int, ...]
) -> None:
    """CUDA's driver does not start if it cannot name its threads by files below /proc/self/task."""
    leave_out(monkeypatch, *omitted)
    extension = load("prisoner", sandbox={"devices": ["/dev/null"]})
    assert extension.sync.name_a_thread() == "cuda-named"
    assert "devices" in extension.sandbox_status().layers["files"].detail
    assert load("prisoner", name="without").sync.name_a_thread() in OUT_OF_REACH


def test_sharing_memory_of_gpus_permits_their_devices(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    if not can_open_terminals():
        pytest.skip("no terminal can be opened here, which this test takes for a GPU")
    monkeypatch.setattr(pyisolate._sandbox.policy, "_GPU", ("/dev/ptmx",))
    monkeypatch.setattr(warnings, "warn", lambda *args, **options: None)  # of no GPU
    extension = load("prisoner", share_torch=True, share_cuda_ipc=True)
    assert extension.sync.attempt("open_a_terminal", {}) == "done"
    assert load("prisoner", name="without", share_torch=True).sync.attempt("open_a_terminal", {}) in HIDDEN
