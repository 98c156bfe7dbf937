"""What host and extensions of the soak share."""

from __future__ import annotations

from typing import Any

from pyisolate import ProxiedSingleton, register_type


@register_type
class Refused(Exception):
    """Raised on purpose."""


class Board(ProxiedSingleton):
    """The host's side of nested calls."""

    worker: Any = None

    async def add(self, value: int) -> int:
        return value + 1

    async def nest(self, depth: int) -> int:
        return 0 if depth == 0 else 1 + int(await Board.worker.nest(depth - 1))
