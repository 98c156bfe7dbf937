"""The extension: it works with the application's own objects."""

from receipts import Receipt

from pyisolate import ExtensionBase


class Till(ExtensionBase):
    def add(self, receipt: Receipt, name: str, cents: int) -> Receipt:
        receipt.items[name] = cents
        return receipt

    def forge(self) -> Receipt:
        receipt = Receipt()
        receipt.items["refund"] = -1_000_000
        return receipt
