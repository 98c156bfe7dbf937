"""Functions of PyIsolate 0.10 that applications call, and that have nothing to do any more."""

from __future__ import annotations

__all__ = ["flush_tensor_keeper", "purge_orphan_sender_shm_files"]


def flush_tensor_keeper() -> int:
    """How many tensors were let go of: 0. A tensor is kept as long as somebody has it, and no longer."""
    return 0


def purge_orphan_sender_shm_files(min_age_seconds: float = 1.0, force: bool = False) -> int:
    """How many files were removed: 0. Shared memory has no names here that could be left behind."""
    return 0
