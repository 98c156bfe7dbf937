"""An application's own class: encode makes a value of it that can be sent, decode makes it again.

Run it from any folder: python examples/own_classes/host.py
"""

from __future__ import annotations

from pathlib import Path

from receipts import Receipt

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent


def main() -> None:
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")}) as manager:
        till = manager.load_extension({"name": "till", "module_path": str(HERE / "till")})
        receipt = till.sync.add(Receipt(), "tea", 250)
        receipt = till.sync.add(receipt, "cake", 400)
        print(f"{type(receipt).__name__} of {receipt.total()} cents: {', '.join(receipt.items)}")

        # An extension can send anything: the host's decode checks it.
        try:
            till.sync.forge()
        except ValueError as error:
            print(f"Refused: {error}")


if __name__ == "__main__":
    main()
