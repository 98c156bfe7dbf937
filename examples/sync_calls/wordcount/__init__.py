"""Counts words."""

from collections import Counter

from pyisolate import ExtensionBase


class WordCount(ExtensionBase):
    def count(self, text: str) -> int:
        return len(text.split())

    def most_common(self, text: str, limit: int) -> list[tuple[str, int]]:
        return Counter(text.split()).most_common(limit)
