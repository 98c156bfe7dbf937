"""Tensors and arrays that are in shared memory from the start, so that not even the first send copies.

Extensions that were sent shared memory before open what is new at once, in the background: when it is sent,
they have it already.

Any tensor of the CPU can be sent to an extension with `share_torch`. If its memory is torch's alone, its
storage moves into shared memory the first time it is sent, as `Tensor.share_memory_` would move it, and like
after that it cannot be enlarged any more. That is a copy, and for a moment twice the memory; it is as long as
the storage lives if there are views, or other threads that run, since these may use the old memory. A tensor
whose memory NumPy, a file or another library has, too, is copied each time it is sent, and a UserWarning says
so. What `empty` makes is shared in all these cases: NumPy arrays over it see what extensions write.

All of a storage is shared: whoever gets a view of a tensor can read and write the whole tensor.

With a torch that cannot move a storage (2.11 and earlier) the tensor that is sent moves alone: other views of
its storage, made before, stay where they are and do not see what the extension writes. Views of what `empty`
makes do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._core import send_ahead, shared_buffer, shared_storage

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor, dtype

__all__ = ["empty", "empty_array", "empty_like"]


def empty(*size: Any, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """A contiguous tensor of zeros in memory that can be shared with extensions.

    `size` is given as to `torch.empty`: ``empty(3, 4)`` or ``empty((3, 4))``, in elements. `dtype`: default
    `torch.get_default_dtype()`. The memory, ``prod(size)`` elements, is there when this returns. Sending it
    for the first time, to an extension that was sent shared memory before, costs about as much as sending it
    again.

    Raises ImportError without torch, MemoryError, and what `torch.empty` raises for a wrong size or dtype.
    """
    import torch

    pattern = torch.empty(*size, dtype=dtype, device="meta")
    return _make(pattern, requires_grad)


def empty_like(tensor: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros of the size, and if not given otherwise dtype and order of dimensions, of another.

    Raises as `empty` does.
    """
    import torch

    pattern = torch.empty_like(tensor, dtype=dtype, device="meta")
    return _make(pattern, requires_grad)


def empty_array(shape: int | tuple[int, ...], dtype: Any = float, order: Any = "C") -> ndarray[Any, Any]:
    """A NumPy array of zeros in memory that can be shared with extensions that have `share_numpy`.

    `shape`, `dtype` and `order` are those of `numpy.empty`; the dtype must not hold objects. Views of it are
    shared, too; results of arithmetic are ordinary arrays.

    Raises ImportError without numpy, TypeError for a dtype that holds objects, and MemoryError.
    """
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of dtype {kind} holds Python objects, which cannot be shared")
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(lengths) * kind.itemsize
    if size <= 0:
        return numpy.empty(lengths, kind, order)  # or what it says of a negative length
    array: ndarray[Any, Any] = numpy.ndarray(lengths, kind, shared_buffer(size), order=order)
    send_ahead(array)
    return array


def _make(pattern: Tensor, requires_grad: bool) -> Tensor:
    import torch

    tensor = torch.empty(0, dtype=pattern.dtype, device="cpu")
    if pattern.numel() == 0:
        tensor = torch.empty_strided(pattern.shape, pattern.stride(), dtype=pattern.dtype, device="cpu")
        return tensor.requires_grad_(requires_grad)
    storage = shared_storage(pattern.numel() * pattern.element_size())
    with torch.no_grad():
        tensor.set_(storage, 0, pattern.shape, pattern.stride())
    tensor.requires_grad_(requires_grad)
    send_ahead(tensor)
    return tensor
