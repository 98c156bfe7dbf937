"""Compares words by a model of another extension, which it calls through the host."""

from typing import Any

from pyisolate import ExtensionBase, Ref


class Search(ExtensionBase):
    async def nearest(self, model: Ref[Any], word: str, others: list[str]) -> str:
        wanted = await model.embed(word)
        distances = {}
        for other in others:
            found = await model.embed(other)
            distances[other] = sum(abs(a - b) for a, b in zip(wanted, found, strict=True))
        return min(distances, key=lambda other: distances[other])
