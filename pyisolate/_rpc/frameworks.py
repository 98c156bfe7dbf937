"""Arrays of JAX and CuPy: they are sent as NumPy arrays, and arrive as arrays of their framework.

Only the frameworks of the table below are used, and only on a side that has or receives such an array.
A GPU array is copied through CPU memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from .._core import set_framework_hooks

__all__ = ["install"]


class Framework(NamedTuple):
    """The functions that convert the arrays of one package to NumPy arrays and back."""

    array_type: Callable[[Any], Any]
    """package -> the class of its arrays."""
    export: Callable[[Any, Any], Any]
    """(package, array) -> NumPy array with the same dtype, without a copy if possible."""
    restore: Callable[[Any, Any], Any]
    """(package, NumPy array) -> array."""


def _export_jax(jax: Any, array: Any) -> Any:
    import numpy

    # Not numpy.from_dlpack: NumPy's DLPack has no bfloat16. This shares CPU memory, too.
    return numpy.asarray(array)


def _restore_jax(jax: Any, array: Any) -> Any:
    if array.dtype.kind == "V" or not array.flags.writeable or not array.flags.c_contiguous:
        return jax.numpy.asarray(array)
    return jax.dlpack.from_dlpack(array)


FRAMEWORKS = {
    "jax": Framework(lambda jax: jax.Array, _export_jax, _restore_jax),
    "cupy": Framework(
        lambda cupy: cupy.ndarray,
        lambda cupy, array: cupy.asnumpy(array),
        lambda cupy, array: cupy.asarray(array),
    ),
}


def export(value: object) -> tuple[str, str, Any] | None:
    """Return (framework, dtype, NumPy array of a builtin dtype), or None for a value of another kind."""
    for name, framework in FRAMEWORKS.items():
        package = sys.modules.get(name)
        if package is None or not isinstance(value, framework.array_type(package)):
            continue
        array = framework.export(package, value)
        dtype = array.dtype.name
        if array.dtype.isbuiltin != 1:  # a dtype of ml_dtypes, such as bfloat16, is sent as its bytes
            array = array.view(f"u{array.dtype.itemsize}")
        return name, dtype, array
    return None


def restore(name: str, dtype: str, array: Any) -> Any:
    """Return the array that `export` has converted.

    Raises ImportError if the framework is not installed here, and TypeError if it does not have the dtype.
    """
    framework = FRAMEWORKS.get(name)
    if framework is None:
        raise TypeError(f"the peer sent an array of {name!r}, which this version does not know")
    try:
        package = __import__(name)  # one of the names above
    except ImportError as error:
        raise ImportError(
            f"the peer sent an array of {name}, which is not installed here; add it to the dependencies",
            name=name,
        ) from error
    if dtype != array.dtype.name:
        array = array.view(_extra_dtype(dtype))
    return framework.restore(package, array)


def _extra_dtype(name: str) -> Any:
    import ml_dtypes  # type: ignore[import-not-found,unused-ignore]  # comes with JAX
    import numpy

    dtype = getattr(ml_dtypes, name, None) if name.startswith(("bfloat", "float", "int", "uint")) else None
    if dtype is None:
        raise TypeError(f"the peer sent an array of dtype {name!r}, which is not known here")
    return numpy.dtype(dtype)


def install() -> None:
    """Set these functions as the hooks of the value conversion."""
    set_framework_hooks(export, restore)
