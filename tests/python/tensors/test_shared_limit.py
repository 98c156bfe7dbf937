"""The limit of shared memory: an honest extension gets an error in its call, a hostile one is dropped."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyisolate import Extension, ProtocolError

Load = Callable[..., Extension]

MB = 1 << 20
LIMIT = 16 * MB


@pytest.fixture
def extension(load: Load) -> Any:
    return load("arrays", share_numpy=True, sandbox={"limits": {"shared_memory": LIMIT}}).sync


def fill(make: Callable[[], Any]) -> int:
    """Return how many megabytes are possible until an error that names the limit."""
    kept: list[Any] = []
    with pytest.raises(MemoryError, match="shared_memory"):
        keep(kept, make)
    return len(kept)


def keep(kept: list[Any], make: Callable[[], Any]) -> None:
    while len(kept) < 100:
        kept.append(make())


def test_results_that_the_host_keeps(extension: Any) -> None:
    for _ in range(3):
        assert 12 <= fill(lambda: extension.copy_of_zeros(MB)) <= 16
        gc.collect()
    assert extension.copy_of_zeros(MB).nbytes == MB


def test_arrays_that_it_shares(extension: Any) -> None:
    for _ in range(3):
        assert 12 <= fill(lambda: extension.keep_and_share(MB)) <= 16
        gc.collect()
        assert extension.drop_shared() == 0
    assert extension.keep_shared(100, MB) == 16  # and no more, all of them its own
    assert extension.drop_shared() == 0
    assert extension.shared_zeros(MB).nbytes == MB


def test_what_was_let_go_of_is_not_counted(extension: Any) -> None:
    for _ in range(50):
        assert extension.shared_zeros(3 * LIMIT // 4)[-1] == 0


def test_what_the_host_sends(extension: Any) -> None:
    with pytest.raises(MemoryError, match="shared_memory"):
        extension.echo(np.zeros(LIMIT + 1, np.uint8))
    assert extension.echo(np.ones(LIMIT // 2, np.uint8)).sum() == LIMIT // 2


def test_one_that_does_not_keep_to_it_is_dropped(load: Load) -> None:
    extension = load("arrays", share_numpy=True, sandbox={"limits": {"shared_memory": LIMIT}}).sync
    extension.forget_the_limit()
    kept: list[Any] = []
    with pytest.raises(ProtocolError, match="shared_memory"):
        keep(kept, lambda: extension.keep_and_share(MB))
    assert len(kept) == 16


def test_the_memory_between_them_has_that_size(load: Load) -> None:
    rings = 2 * MB
    sizes = load("arrays", sandbox={"limits": {"shared_memory": LIMIT - 5}}).sync.memory_sizes()
    assert sizes == [rings + 2 * LIMIT]
    assert load("arrays", name="free").sync.memory_sizes()[-1] > 100 * LIMIT


def test_wrong_limits_are_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="'shared_memory' must be a positive whole number"):
        load("arrays", sandbox={"limits": {"shared_memory": 0}})
