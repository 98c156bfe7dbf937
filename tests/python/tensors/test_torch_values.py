"""Values of PyTorch other than tensors: sizes, dtypes and other constants, devices, named results, states."""

from __future__ import annotations

import collections
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conversion import decode, ext, round_trip
from processes import run_host

from pyisolate import Extension, ProtocolError, _core

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Load = Callable[..., Extension]
CONSTANTS = [
    value
    for value in vars(torch).values()
    if type(value) in (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)
]


@pytest.mark.parametrize(
    "value",
    [
        torch.Size(),
        torch.Size([2, 0, 2**40]),
        torch.ones(2, 3).shape,
        torch.device("cpu"),
        torch.device("cpu", 0),
        torch.device("meta"),
        torch.device("cuda"),
        torch.device("cuda", 127),
        torch.device("xpu", 1),
    ],
    ids=repr,
)
def test_survive(value: Any) -> None:
    got = round_trip({"a": [value], value: 1})
    assert got == {"a": [value], value: 1}
    assert type(got["a"][0]) is type(value)


@pytest.mark.parametrize("value", CONSTANTS, ids=repr)
def test_constants_are_the_same_objects(value: Any) -> None:
    assert round_trip(value) is value


def test_results_of_functions() -> None:
    found = torch.max(torch.tensor([[1.0, 5.0], [7.0, 3.0]]), dim=1)
    got = round_trip([found])[0]
    assert type(got) is torch.return_types.max
    assert got.values.tolist() == [5, 7]
    assert got.indices.tolist() == [1, 0]
    for one in (torch.linalg.svd(torch.eye(2)), torch.sort(torch.ones(3)), torch.frexp(torch.ones(2))):
        got = round_trip(one)
        assert type(got) is type(one)
        assert all(map(torch.equal, got, one))


def test_results_have_no_other_values_left_out() -> None:
    """Each class that torch.return_types lists."""
    for cls in torch.return_types.all_return_types:
        value = cls(range(cls.n_sequence_fields))
        got = round_trip(value)
        assert type(got) is cls
        assert got == value


def test_state_of_a_module() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    got = round_trip(state)
    assert type(got) is collections.OrderedDict
    assert list(got) == list(state)
    assert all(torch.equal(got[key], state[key]) for key in state)
    assert got._metadata == state._metadata == collections.OrderedDict({"": {"version": 2}})
    torch.nn.BatchNorm1d(3).load_state_dict(got)


@pytest.mark.parametrize("shared", [False, True])
def test_from_an_extension(load: Load, shared: bool) -> None:
    echo: Any = load("tensors", share_torch=shared).sync.echo
    values = [torch.float16, torch.device("cpu"), torch.Size([3]), torch.channels_last]
    assert echo(values) == values
    found = echo(torch.max(torch.arange(6.0).reshape(2, 3), dim=0))
    assert type(found) is torch.return_types.max
    assert found.values.tolist() == [3, 4, 5]
    state = echo(torch.nn.Linear(2, 3).state_dict())
    torch.nn.Linear(2, 3).load_state_dict(state)
    assert state._metadata[""] == {"version": 1}


def test_errors_say_where() -> None:
    result = torch.return_types.max((torch.ones(1), {"a": object()}))
    with pytest.raises(TypeError, match=r"^value\[0\]\[1\]\['a'\]: .*'builtins\.object' cannot be sent"):
        round_trip([result])


@pytest.mark.parametrize(
    "payload",
    [
        [],
        ["tensor", 1],
        ["size"],
        ["size", 1],
        ["size", [1.5]],
        ["size", [True]],
        ["size", ["1"]],
        ["size", [2**63]],
        ["constant", 1],
        ["constant", []],
        ["result", "max", []],
        ["result", "max", [1]],
        ["result", "max", [1, 2, 3]],
        ["result", "max", 2],
        ["result", ["max"], [1, 2]],
        ["device", "cpu", None],
        ["device", "cuda:1", None, None],
        ["device", "cuda:1", 1, None],
        ["device", b"cpu", None, None],
        ["device", "cpu", -1, None],
        ["device", "cpu", 128, None],
        ["device", "cpu", 2**64 - 1, None],
        ["device", "cpu", 1.0, None],
        ["device", "cpu", True, None],
        ["device", "cpu", 0, bytes(16)],
        ["device", "cuda", 0, bytes(15)],
        ["device", "cuda", None, bytes(16)],
        ["device", "cuda", 0, "x" * 16],
    ],
    ids=lambda payload: repr(payload)[:50],
)
def test_malformed(payload: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(ext("torch", payload))


@pytest.mark.parametrize(
    "payload",
    [
        ["constant", "float33"],
        ["constant", "half"],
        ["constant", "nn"],
        ["constant", "load"],
        ["constant", "torch.float32"],
        ["constant", "x" * 60_000],
        ["result", "torch", [1]],
        ["result", "all_return_types", [1]],
        ["device", "nowhere", None, None],
        ["device", "cuda\0", 1, None],
        ["device", "", None, None],
    ],
    ids=lambda payload: repr(payload)[:50],
)
def test_what_this_version_does_not_have(payload: Any) -> None:
    """The sender's version may have it: only this call fails."""
    with pytest.raises(TypeError, match="this process's version") as caught:
        decode(ext("torch", payload))
    assert len(str(caught.value)) < 400


def test_without_torch_the_error_says_so(tmp_path: Path) -> None:
    code = f"""
import sys
from pyisolate import _core
class Blocked:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
try:
    _core._decode({_core._encode(torch.float32, _core.Registry())!r}, _core.Registry())
except ImportError as error:
    print(error)
"""
    # not in the checkout, whose package has no extension module
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (
        "another value of torch, but torch is not installed here; add it to the dependencies" in done.stdout
    )


def test_a_torch_that_was_being_imported_is_found_later(tmp_path: Path) -> None:
    """A value that another thread sends meanwhile sees a module without its classes."""
    code = """
import sys, types
from pyisolate import _core
sys.modules["torch"] = types.ModuleType("torch")
try:
    _core._encode(object(), _core.Registry())
except TypeError:
    del sys.modules["torch"]
import torch
print(len(_core._encode(torch.ones(3), _core.Registry())))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


LEAK = """
import collections, gc, sys
import torch
from pyisolate import _core

registry = _core.Registry()
good = [torch.Size([1000, 2000]), torch.device("cuda", 3), torch.device("cpu"), torch.float32, torch.strided,
        torch.max(torch.ones(2, 2), dim=0), torch.nn.Linear(2, 2).state_dict()]
bad = [torch.return_types.max((1, object())), [torch.float32, object()]]
body = _core._encode(good, registry)
cut = [body[:size] for size in range(0, len(body), 7)]

def turn():
    _core._decode(_core._encode(good, registry), registry)
    for value in bad:
        try:
            _core._encode(value, registry)
        except TypeError:
            pass
    for part in cut:
        try:
            _core._decode(part, registry)
        except _core.ProtocolError:
            pass

def growth():
    before = sys.getallocatedblocks()
    for _ in range(60):
        turn()
    gc.collect()
    return sys.getallocatedblocks() - before

print(min(growth() for _ in range(12)))
"""


def test_nothing_leaks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60


HOST = """
import json, sys, threading
import torch
from pyisolate._core import Registry, Session

host, child = Session.pair(Registry())
host.share(torch=True)
value = [torch.ones(3), torch.Size([1]), torch.float32, torch.max(torch.ones(2, 2), dim=0)]
start, wrong = threading.Barrier(16), []

def send():
    start.wait()
    try:
        host.notify(1, "take", (value,), 1 << 60)
    except BaseException as error:
        wrong.append(repr(error))

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=send) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(wrong))
"""


def test_the_first_ones_are_sent_by_several_threads(tmp_path: Path) -> None:
    """Python code looks up torch's names then, and other threads run in the middle of it."""
    for _ in range(3):
        assert run_host(HOST, tmp_path, []) == []


class Unhashable(type):
    """A metaclass without a hash."""

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}, [1], (1,)])
def test_a_class_without_a_hash_is_none_of_torch(value: Any) -> None:
    made = Unhashable("Sub", (type(value),), {})(value)
    assert round_trip(made) == value
