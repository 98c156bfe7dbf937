"""Tensors that are in shared memory from the start, so that the first send of them copies nothing either.

Any tensor of the CPU can be sent to an extension with `share_torch`: the first time it is sent its storage moves
into shared memory, as `Tensor.share_memory_` would move it. For a large one that is a copy, and for a moment twice
the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core import shared_storage

if TYPE_CHECKING:
    from torch import Tensor, dtype

__all__ = ["empty", "empty_like"]


def empty(*size: Any, dtype: dtype | None = None, requires_grad: bool = False) -> Tensor:
    """A contiguous tensor of zeros in memory that can be shared with extensions.

    `size` is given as to `torch.empty`: ``empty(3, 4)`` or ``empty((3, 4))``, in elements. `dtype`: default
    `torch.get_default_dtype()`. The memory, ``prod(size)`` elements, is there when this returns.

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


def _make(pattern: Tensor, requires_grad: bool) -> Tensor:
    import torch

    tensor = torch.empty(0, dtype=pattern.dtype, device="cpu")
    if pattern.numel() == 0:
        tensor = torch.empty_strided(pattern.shape, pattern.stride(), dtype=pattern.dtype, device="cpu")
    else:
        storage = shared_storage(pattern.numel() * pattern.element_size())
        with torch.no_grad():
            tensor.set_(storage, 0, pattern.shape, pattern.stride())
    return tensor.requires_grad_(requires_grad)
