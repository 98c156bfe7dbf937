"""An extension. Its public methods are what the host can call."""

import os

from pyisolate import ExtensionBase


class Greeter(ExtensionBase):
    async def greet(self, name: str) -> str:
        if not name:
            raise ValueError("whom?")
        return f"Hello, {name}"

    def process_id(self) -> int:  # plain methods work as well
        return os.getpid()
