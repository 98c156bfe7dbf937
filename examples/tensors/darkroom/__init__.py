"""Works on images that are torch tensors of the host."""

from typing import Any

from pyisolate import ExtensionBase


class Darkroom(ExtensionBase):
    def shape(self, image: Any) -> list[int]:
        return list(image.shape)

    def brightness(self, image: Any) -> float:
        return float(image.mean())

    def darken(self, image: Any, factor: float) -> None:
        image.mul_(factor)  # in place: with share_torch this is the host's own memory
