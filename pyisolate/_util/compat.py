"""Functions of PyIsolate 0.10 that applications still call. They have nothing left to do."""

from __future__ import annotations

__all__ = ["flush_tensor_keeper", "purge_orphan_sender_shm_files"]


def flush_tensor_keeper() -> int:
    """Return the number of released tensors: always 0. A tensor lives exactly as long as it is referenced."""
    return 0


def purge_orphan_sender_shm_files(min_age_seconds: float = 1.0, force: bool = False) -> int:
    """Return the number of removed files: always 0. Shared memory has no names, so no file is left behind."""
    return 0
