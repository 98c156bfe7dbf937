"""Written for NumPy 1: `cumproduct` is gone in NumPy 2."""

from typing import Any

import numpy as np

from pyisolate import ExtensionBase


class Legacy(ExtensionBase):
    def numpy_version(self) -> str:
        return np.__version__

    def running_product(self, array: Any) -> Any:
        return np.cumproduct(array)  # type: ignore[attr-defined]
