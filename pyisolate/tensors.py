"""Creates tensors and arrays in shared memory, so that even the first send does not copy them.

Extensions that were sent shared memory before open new memory at once, in the background. When the tensor or
array is sent, they have opened it already.

Any CPU tensor can be sent to an extension with `share_torch`. If its memory belongs to torch alone, its
storage moves to shared memory when it is first sent, as with `Tensor.share_memory_`, and cannot be enlarged
afterwards. The move copies the tensor and needs twice the memory for a moment. If there are views, or other
threads run, the old memory is kept as long as the storage lives, since these may use it. A tensor whose
memory is also used by NumPy, a file or another library is copied each time it is sent, and a UserWarning says
so. Tensors made by `empty` are shared in all these cases: NumPy arrays over them see what extensions write.

A storage is always shared as a whole: a receiver of a view can read and write the whole tensor.

A torch that cannot move a storage (2.11 and earlier) moves only the tensor that is sent: views of its storage
that were made before keep the old memory and do not see what the extension writes. Views of a tensor made by
`empty` do see it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._core import prefetch, shared_buffer, shared_storage

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor, dtype

__all__ = ["empty", "empty_array", "empty_like"]


def empty(*size: Any, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Return a contiguous tensor of zeros in memory that can be shared with extensions.

    `size`, in elements, has the form that `torch.empty` accepts: ``empty(3, 4)`` or ``empty((3, 4))``.
    `dtype` defaults to `torch.get_default_dtype()`. The memory of all ``prod(size)`` elements is allocated at
    once. The first send, to an extension that was sent shared memory before, costs about as much as a later
    one.

    Raises ImportError without torch, MemoryError, and what `torch.empty` raises for an invalid size or dtype.
    """
    import torch

    pattern = torch.empty(*size, dtype=dtype, device="meta")
    return _make(pattern, requires_grad)


def empty_like(tensor: Tensor, *, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor of zeros like `empty` does, with the size and the order of dimensions of `tensor`.

    `dtype` defaults to that of `tensor`. Raises what `empty` raises.
    """
    import torch

    pattern = torch.empty_like(tensor, dtype=dtype, device="meta")
    return _make(pattern, requires_grad)


def empty_array(shape: int | tuple[int, ...], dtype: Any = float, order: Any = "C") -> ndarray[Any, Any]:
    """Return a NumPy array of zeros in memory that can be shared with extensions that have `share_numpy`.

    `shape`, `dtype` and `order` are those of `numpy.empty`; the dtype must not contain objects. Views of the
    array are shared too; results of arithmetic are ordinary arrays.

    Raises ImportError without numpy, TypeError for a dtype that contains objects, and MemoryError.
    """
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of dtype {kind} contains Python objects, which cannot be shared")
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(lengths) * kind.itemsize
    if size <= 0:
        return numpy.empty(lengths, kind, order)  # which raises for a negative length
    array: ndarray[Any, Any] = numpy.ndarray(lengths, kind, shared_buffer(size), order=order)
    prefetch(array)
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
    prefetch(tensor)
    return tensor
