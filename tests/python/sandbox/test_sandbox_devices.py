"""Devices of graphics processors, if the configuration permits them. Other devices stand in for real ones.

A folder replaces /dev. Its devices are other kernel devices under the names that drivers use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pyisolate import Extension
from pyisolate._sandbox.policy import _devices

Load = Callable[..., Extension]
GPUS = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1", "dri/renderD128", "kfd"]
OTHERS = ["sda", "kmsg", "mem", "snd/seq", "xnvidia0"]
ZERO = os.makedev(1, 5)


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that replaces /dev."""
    folder = tmp_path / "dev"
    for name in (*GPUS, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr("pyisolate._sandbox.policy._DEV", str(folder))
    return folder


def test_those_that_there_are_are_found(dev: Path) -> None:
    found = [os.path.relpath(path, dev) for path in _devices(["gpu"])]
    assert found == [
        *("nvidia-caps", "nvidia-uvm", "nvidia0", "nvidia1", "nvidiactl"),
        *("nvidia-caps/nvidia-cap1", "dri", "kfd"),
    ]
    assert _devices(["/dev/ptmx", "gpu"])[0] == "/dev/ptmx"
    assert _devices([]) == []


def test_a_system_without_any_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyisolate._sandbox.policy._DEV", str(tmp_path))
    assert _devices(["gpu"]) == []


@pytest.fixture
def real(dev: Path) -> Path:
    """The same, with devices that can be opened."""
    for name in (*GPUS, *OTHERS):
        (dev / name).unlink()
        try:
            os.mknod(dev / name, 0o666 | stat.S_IFCHR, ZERO)
        except PermissionError:
            pytest.skip("only root can make devices")
    try:
        os.close(os.open(dev / GPUS[0], os.O_RDWR))
    except OSError:
        pytest.skip("the file system of temporary folders has no devices")
    return dev


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_they_can_be_used_where_they_are_given(load: Load, real: Path) -> None:
    given = load("prisoner", name="given", sandbox={"devices": ["gpu"]})
    refused = load("prisoner", name="refused")
    for name in GPUS:
        assert given.sync.use_device(str(real / name)) == "ENOTTY"  # the device answered
        with pytest.raises((PermissionError, FileNotFoundError)):
            refused.sync.use_device(str(real / name))
    for name in OTHERS:
        with pytest.raises((PermissionError, FileNotFoundError)):
            given.sync.use_device(str(real / name))


def test_what_drivers_look_at_can_be_read(load: Load, real: Path) -> None:
    given = load("prisoner", name="given", sandbox={"devices": ["gpu"]})
    refused = load("prisoner", name="refused")
    path = "/proc/devices"
    assert given.sync.lock(path)
    with pytest.raises(PermissionError):
        refused.sync.lock(path)
