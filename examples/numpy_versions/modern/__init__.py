"""Written for NumPy 2: `unique_counts` and `vecdot` are new in it."""

from typing import Any

import numpy as np

from pyisolate import ExtensionBase


class Modern(ExtensionBase):
    def numpy_version(self) -> str:
        return np.__version__

    def histogram(self, array: Any) -> tuple[Any, Any]:
        result = np.unique_counts(array)
        return result.values, result.counts

    def dot(self, first: Any, second: Any) -> float:
        return float(np.vecdot(first, second))
