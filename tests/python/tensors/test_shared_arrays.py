"""NumPy arrays in shared memory: which writes the other side sees, and which arrays are copied."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from waiting import eventually, shared_memory

import pyisolate
from pyisolate import Extension
from pyisolate._core import ProtocolError, Registry, Session

Load = Callable[..., Extension]


@pytest.fixture
def extension(load: Load) -> Any:
    return load("arrays", share_numpy=True).sync


def test_both_sides_see_each_others_writes(extension: Any) -> None:
    a = pyisolate.empty_array((3, 4))
    assert a.sum() == 0
    extension.hold(a)
    a[:] = 2
    assert extension.held_total() == 24
    extension.fill_held(5)
    assert a.sum() == 60


def test_views_are_shared_with_their_strides(extension: Any) -> None:
    a = pyisolate.empty_array((6, 10), np.int32)
    a[:] = np.arange(60).reshape(6, 10)
    for view in (a[1:3], a[::2, 3], a.T, a[::-1, ::-2], a[2:2], a.reshape(3, 20)[1], a.view(np.uint8)):
        back = extension.echo(view)
        assert np.array_equal(back, view)
        assert back.dtype == view.dtype
        if view.size:
            assert back.strides == view.strides
            assert back.__array_interface__["data"] == view.__array_interface__["data"]
    extension.hold(a[:, 3])
    extension.fill_held(-1)
    assert (a[:, 3] == -1).all()
    assert (a != -1).sum() == 54


def test_it_comes_back_as_the_same_memory(extension: Any) -> None:
    a = pyisolate.empty_array(1000)
    back = extension.echo(a)
    back[5] = 3
    assert a[5] == 3


def test_read_only_stays_read_only(extension: Any) -> None:
    a = pyisolate.empty_array(10)
    a.flags.writeable = False
    assert not extension.echo(a).flags.writeable


@pytest.mark.parametrize("dtype", ["<f8", ">i2", "M8[s]", "U5", [("x", "f4"), ("y", "i8")], "?", "c16"])
def test_any_dtype(extension: Any, dtype: Any) -> None:
    a = pyisolate.empty_array((2, 3), dtype, "F")
    assert a.flags.f_contiguous
    back = extension.echo(a)
    assert back.dtype == a.dtype
    assert np.array_equal(back, a)


def test_other_arrays_are_copied(extension: Any) -> None:
    a = np.zeros(1000)
    extension.hold(a)
    extension.fill_held(1)
    assert a.sum() == 0
    shared = pyisolate.empty_array(10)
    extension.hold(shared + 1)
    extension.fill_held(7)
    assert shared.sum() == 0


def test_without_sharing_they_are_copied(load: Load) -> None:
    extension: Any = load("arrays").sync
    a = pyisolate.empty_array(1000)
    extension.hold(a)
    extension.fill_held(1)
    assert a.sum() == 0


def test_memory_lives_while_either_side_holds_it(extension: Any) -> None:
    a = pyisolate.empty_array(1000)
    a[:] = 1
    extension.hold(a)
    del a
    gc.collect()
    assert extension.held_total() == 1000
    extension.release()
    b = extension.make_shared(100)
    assert b.sum() == 100
    extension.release()
    assert b.sum() == 100


@pytest.mark.alone
def test_memory_goes_back(extension: Any) -> None:
    extension.echo(pyisolate.empty_array(10))
    before = shared_memory()
    for _ in range(20):
        a = pyisolate.empty_array(4 << 20, np.uint8)
        extension.echo(a)
    del a
    assert eventually(lambda: shared_memory() <= before + (16 << 10))


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="objects"):
        pyisolate.empty_array(3, object)
    with pytest.raises(MemoryError):
        pyisolate.empty_array(1 << 55, np.uint8)
    with pytest.raises(ValueError, match="negative"):
        pyisolate.empty_array(-1)
    assert pyisolate.empty_array((0, 3)).shape == (0, 3)


def test_nothing_shared_is_taken_unasked() -> None:
    """A child that shares although it must not is disconnected, and nothing else happens."""
    host, child = Session.pair(Registry())
    child.share(numpy=True)
    method = child.method(1, "echo", timeout=5)
    call = method(pyisolate.empty_array(10))
    with pytest.raises(ProtocolError):
        host.method(1, "echo", sync=True, timeout=5)(1)
    call.close()
