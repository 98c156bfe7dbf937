"""Objects of PyTorch that cannot be sent: the error names a replacement, and that is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hints import refused, sent_as_told

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(params=["shared", "standard"])
def either(request: pytest.FixtureRequest, tensor_extensions: dict[str, Any]) -> Any:
    return tensor_extensions[request.param].sync


class Special(torch.Tensor):  # type: ignore[misc]
    pass


class Weight(torch.nn.Parameter):  # type: ignore[misc]
    pass


def csr() -> Any:
    return torch.eye(4).to_sparse_csr()


def quantised() -> Any:
    return torch.quantize_per_tensor(torch.eye(4), 1.0, 0, torch.qint8)


def channels() -> Any:
    return torch.quantize_per_channel(torch.eye(4), torch.ones(4), torch.zeros(4), 0, torch.quint8)


EYES: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(4).to_sparse(),
    "sparse, of two at one place": lambda: torch.sparse_coo_tensor(
        [[0, 0, 1, 2, 3]] * 2, [0.25, 0.75, 1.0, 1.0, 1.0], (4, 4)
    ),
    "sparse_csr": csr,
    "sparse_csc": lambda: torch.eye(4).to_sparse_csc(),
    "sparse_bsr": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "sparse_bsc": lambda: torch.eye(4).to_sparse_bsc((2, 2)),
    "mkldnn": lambda: torch.eye(4).to_mkldnn(),
    "quantised": quantised,
    "quantised by channel": channels,
    "subclass": lambda: torch.eye(4).as_subclass(Special),
    "subclass of Parameter": lambda: Weight(torch.eye(4)),
    "result": lambda: torch.eye(4, requires_grad=True) * 1,
    "result as a subclass": lambda: (torch.eye(4, requires_grad=True) * 1).as_subclass(Special),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", EYES.values(), ids=EYES.keys())
def test_tensors(either: Any, make: Callable[[], Any]) -> None:
    value = make()
    got = sent_as_told(either.echo, value)
    assert type(got) is torch.Tensor
    assert torch.equal(got, torch.eye(4))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(either: Any, layout: Any) -> None:
    value = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    assert [len(part) for part in sent_as_told(either.echo, value)] == [2, 3]


@pytest.mark.filterwarnings("ignore")
def test_masked_tensors(either: Any) -> None:
    from torch.masked import masked_tensor

    data, mask = sent_as_told(either.echo, masked_tensor(torch.ones(2), torch.tensor([True, False])))
    assert torch.equal(data[mask], torch.ones(1))


def test_tensors_without_data(either: Any) -> None:
    from torch._subclasses import FakeTensorMode

    expected = (torch.Size([2, 3]), torch.float32)
    assert sent_as_told(either.echo, torch.ones(2, 3, device="meta")) == expected
    with FakeTensorMode():
        fake = torch.ones(2, 3)
    assert sent_as_told(either.echo, fake) == expected
    zeros = sent_as_told(either.echo, torch._efficientzerotensor(2, 3))
    assert torch.equal(zeros, torch.zeros(2, 3))


@pytest.mark.parametrize(
    "name", ["int1", "int2", "int4", "int7", "uint1", "uint4", "uint7", "bits8", "bits4x2"]
)
def test_dtypes_that_torch_cannot_copy(either: Any, name: str) -> None:
    if not hasattr(torch, name):
        pytest.skip("not in this version of torch")
    value = torch.arange(4, dtype=torch.uint8).view(getattr(torch, name))
    assert sent_as_told(either.echo, value).tolist() == [0, 1, 2, 3]


def test_other_things_of_torch(either: Any) -> None:
    got = sent_as_told(either.echo, torch.tensor([1, 2, 3], dtype=torch.uint8).untyped_storage())
    assert got.tolist() == [1, 2, 3]
    linear = torch.nn.Linear(2, 3)
    state = sent_as_told(either.echo, linear)
    assert torch.equal(state["weight"], linear.weight)


@pytest.mark.parametrize("left", [0, 4, 399])
@pytest.mark.parametrize(
    "view", [lambda t: t, lambda t: t[::3], lambda t: t[50:], lambda t: t.expand(3, 100)]
)
def test_storages_that_are_too_small(either: Any, left: int, view: Callable[[Any], Any]) -> None:
    t = torch.arange(100.0)
    value = view(t)
    t.untyped_storage().resize_(left)
    assert "storage has been resized" in refused(either.echo, value)
    t.untyped_storage().resize_(400)
    assert either.echo(value).shape == value.shape


def test_an_empty_view_of_a_storage_without_memory(either: Any) -> None:
    t = torch.arange(100.0)
    empty = t[:0]
    t.untyped_storage().resize_(0)
    assert either.echo(empty).shape == (0,)


def test_an_extension_is_told_too(either: Any) -> None:
    with pytest.raises(TypeError, match=r"result.*storage has been resized"):
        either.shrunk()
    with pytest.raises(TypeError, match=r"result.*no memory.*clone"):
        either.zeros()
    assert either.echo(1) == 1


def test_wrappers_of_functorch(either: Any) -> None:
    def function(x: Any) -> Any:
        assert "torch.func" in refused(either.echo, x)
        return (x * x).sum()

    x = torch.ones(2, 3)
    torch.func.vmap(function)(x)
    torch.func.grad(function)(x)
    torch.func.jvp(function, (x,), (x,))
    torch.func.vmap(torch.func.grad(function))(x)


def test_a_wrapper_without_memory(either: Any) -> None:
    torch.func.functionalize(lambda x: refused(either.echo, x) and x)(torch.ones(3))
