"""Loads models, which are too large to be sent, and keeps them while somebody has a reference."""

import weakref

from pyisolate import ExtensionBase, Ref


class Model:
    def __init__(self, name: str) -> None:
        self.name = name

    def embed(self, word: str) -> list[int]:
        return [word.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]


class Models(ExtensionBase):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: weakref.WeakSet[Model] = weakref.WeakSet()

    def load(self, name: str) -> Ref[Model]:
        model = Model(name)
        self.loaded.add(model)
        return Ref(model, methods=["embed"])  # what others may call

    def kind(self, model: Model) -> str:
        return f"{type(model).__name__} named {model.name}"  # a reference that comes home is the object

    def count(self) -> int:
        return len(self.loaded)
