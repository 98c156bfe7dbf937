"""The measured extension. Its operations are in rpcbench/service.py; this module describes its process."""

import os
import platform


def describe() -> dict[str, object]:
    """Which process this is."""
    return {"pid": os.getpid(), "python": platform.python_version()}
