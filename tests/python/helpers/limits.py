"""Extensions with limits, if this system can enforce them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import Extension, ExtensionDied, SandboxError


def start_limited(load: Callable[..., Extension], folder: str, **config: Any) -> Extension:
    """Start an extension with limits. Skip the test if they cannot be enforced."""
    extension = load(folder, **config)
    try:
        extension.ensure_process_started()
    except SandboxError as error:
        pytest.skip(f"a limit cannot hold here: {error}")
    except ExtensionDied:
        other = load(folder, name="unlimited")
        other.ensure_process_started()
        if other.sandbox_status().layers["namespaces"].active:
            raise
        pytest.skip("without namespaces all processes of the user are counted, and there are too many")
    return extension
