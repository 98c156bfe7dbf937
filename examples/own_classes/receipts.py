"""A class that both processes import."""

from __future__ import annotations

from pyisolate import register_type


class Receipt:
    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def total(self) -> int:
        return sum(self.items.values())


def encode(receipt: Receipt) -> object:
    return receipt.items


def decode(value: object) -> Receipt:
    if not isinstance(value, dict):
        raise ValueError("a receipt is made of a dict")
    for name, cents in value.items():
        if type(name) is not str or type(cents) is not int or cents < 0:
            raise ValueError(f"{name!r} at {cents!r} cents is no item of a receipt")
    receipt = Receipt()
    receipt.items = value
    return receipt


register_type(Receipt, name="receipt", encode=encode, decode=decode)
