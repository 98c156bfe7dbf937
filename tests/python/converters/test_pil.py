"""Images of PIL."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from conversion import round_trip
from hypothesis import given
from hypothesis import strategies as st

from pyisolate import Extension

Image = pytest.importorskip("PIL.Image")

Load = Callable[..., Extension]
MODES = [
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "La",
    "RGBa",
    "RGBX",
    "I;16",
    "I;16L",
    "I;16B",
]


def picture(mode: str, size: tuple[int, int], seed: int = 1) -> Any:
    image = Image.new(mode, size)
    if count := len(image.tobytes()):
        image.frombytes(bytes((i * 31 + seed * 7 + i // 251) % 256 for i in range(count)))
    if mode in ("P", "PA"):
        image.putpalette(bytes(reversed(range(256))) * 3)
    return image


def check(image: Any, got: Any) -> None:
    assert type(got) is Image.Image
    assert (got.mode, got.size, got.info) == (image.mode, image.size, image.info)
    assert got.tobytes() == image.tobytes()
    assert got.getpalette() == image.getpalette()
    if got.palette:
        assert got.palette.mode == image.palette.mode


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (1, 1), (13, 7), (700, 500)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, size: tuple[int, int]) -> None:
    image = picture(mode, size)
    check(image, round_trip([image])[0])


@given(st.sampled_from(MODES), st.integers(1, 20), st.integers(1, 20), st.integers(0, 255))
def test_any_image(mode: str, width: int, height: int, seed: int) -> None:
    image = picture(mode, (width, height), seed)
    check(image, round_trip(image))


def test_palettes() -> None:
    for image in (
        Image.new("P", (3, 3)),
        picture("RGB", (30, 30)).quantize(7),
        picture("RGBA", (30, 30)).quantize(7),
    ):
        check(image, round_trip(image))
        assert round_trip(image).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_info() -> None:
    image = picture("RGB", (3, 3))
    image.info = {"dpi": (72, 72.5), "exif": b"\0", "comment": "text", "list": [1, (None, True)], 34: "a tag"}
    check(image, round_trip(image))


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "JPEG", "BMP"])
def test_images_of_files(form: str) -> None:
    """They are loaded, and arrive as plain images, as their copies are."""
    file = io.BytesIO()
    picture("RGB", (40, 30)).save(file, form, dpi=(72, 72))
    file.seek(0)
    image = Image.open(file)
    got = round_trip([image])[0]
    assert type(got) is Image.Image
    assert got.tobytes() == image.tobytes()
    assert got.info == image.info


def test_from_an_extension(load: Load) -> None:
    extension = load("echo")
    for mode in MODES:
        image = picture(mode, (300, 211))
        got = extension.sync.echo(image)
        check(image, got)
        got.paste(0, (0, 0, 5, 5))


def test_a_region() -> None:
    image = picture("RGB", (40, 30)).crop((3, 4, 20, 21))
    check(image, round_trip(image))


@pytest.mark.parametrize(
    ("info", "text"),
    [({"x": object()}, r"its info\['x'\] is of type object"), ({("k",): 1}, "a key of its info")],
)
def test_refused(info: Any, text: str) -> None:
    image = picture("L", (3, 3))
    image.info = info
    with pytest.raises(TypeError, match=text):
        round_trip(image)
