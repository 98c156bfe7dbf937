"""Images of PIL: `[mode, width, height, palette, info, pixels]`; the palette is `[mode, bytes]` or nil.

Pixels are packed in strips, which stay in the processor's cache until they are copied. PIL's raw decoder
unpacks them into the receiver's memory; it takes exactly as many bytes as the mode and the size need.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import PIL.Image
import PIL.ImagePalette

from . import Converter, checks

BITS = {
    "1": 1,
    **dict.fromkeys(("L", "P"), 8),
    **dict.fromkeys(("LA", "PA", "La", "I;16", "I;16L", "I;16B"), 16),
    **dict.fromkeys(("RGB", "YCbCr", "LAB", "HSV"), 24),
    **dict.fromkeys(("RGBA", "RGBa", "RGBX", "CMYK", "I", "F"), 32),
}
"""Modes, and the bits of a pixel as `tobytes` packs them. A row is padded to whole bytes."""
PALETTES = {"RGB": 3, "RGBA": 4}
"""Modes of palettes, and the bytes of a colour."""
STRIP = 256 << 10
MAX_UNPACKED = 1 << 30
"""Bytes that an image may take in addition to four times what was sent."""
MAX_INFO_DEPTH = 8
INFO = (str, bytes, int, float, bool, type(None))


def _row(mode: str, width: int) -> int:
    return (width * BITS[mode] + 7) // 8


def _pixels(image: Any) -> bytearray:
    row = _row(image.mode, image.width)
    pixels, position = bytearray(row * image.height), 0
    rows = max(1, STRIP // max(1, row))
    for top in range(0, image.height if row else 0, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
        pixels[position : position + len(strip)] = strip
        position += len(strip)
    return pixels


def _info(where: str, value: Any, depth: int = 0) -> Any:
    """Return a value of `Image.info`: a plain value, or a list or tuple of such values."""
    if isinstance(value, (list, tuple)) and depth < MAX_INFO_DEPTH:
        items = [_info(where, item, depth + 1) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, INFO) and isinstance(value, Real):
        return float(value)  # a resolution is a fraction of PIL's own
    if not isinstance(value, INFO):
        raise TypeError(
            f"{where} is of type {type(value).__name__}; remove it, or convert it to text, numbers or bytes"
        )
    return value


def encode(image: Any) -> object:
    """Return an image as a list. An image of a file is loaded."""
    image.load()
    if image.mode not in BITS:
        raise TypeError(f"its mode is {image.mode!r}; send image.convert('RGBA')")
    palette = None
    if image.mode in ("P", "PA"):
        mode = image.palette.mode if image.palette and image.palette.mode in PALETTES else "RGB"
        palette = [mode, bytes(image.getpalette(mode) or ())]
    info = {}
    for key, value in image.info.items():
        if not isinstance(key, (str, int)):
            raise TypeError(f"a key of its info is of type {type(key).__name__}; use text")
        info[key] = _info(f"its info[{key!r}]", value)
    return [image.mode, image.width, image.height, palette, info, memoryview(_pixels(image))]


def _check_size(mode: str, width: int, height: int, sent: int) -> None:
    """Check what PIL allocates: a byte or four for each pixel, and two pointers for each row."""
    for size in (width, height):
        if checks.length("size of an image", size) >= 1 << 31:
            raise ValueError("the peer sent an image of an impossible size")
    if sent != _row(mode, width) * height:
        raise ValueError(f"the peer sent {sent} bytes of pixels, not {_row(mode, width) * height}")
    if 16 * height + width * height * (1 if BITS[mode] <= 8 else 4) > 4 * sent + MAX_UNPACKED:
        raise ValueError("the peer sent an image that is too large for its bytes")


def _decode_palette(palette: Any) -> tuple[str, bytes]:
    mode, colours = checks.parts("palette", palette, 2)
    if mode not in PALETTES:
        raise ValueError("the peer sent a palette of an unknown mode")
    data = checks.private("palette", colours, 0)
    if len(data) % PALETTES[mode] or len(data) > 256 * PALETTES[mode]:
        raise ValueError(f"the peer sent a palette of {len(data)} bytes")
    return mode, data


def _decode_info(value: Any, depth: int = 0) -> None:
    if type(value) in (list, tuple) and depth < MAX_INFO_DEPTH:
        for item in value:
            _decode_info(item, depth + 1)
    else:
        checks.need("value in the info of an image", value, *INFO)


def decode(value: object) -> Any:
    """Return the image that `encode` has converted."""
    mode, width, height, palette, info, pixels = checks.parts("image", value, 6)
    if type(mode) is not str or mode not in BITS:
        raise ValueError("the peer sent an image of an unknown mode")
    view = checks.need("list of pixels", pixels, memoryview)
    if not view.c_contiguous:
        raise ValueError("the peer sent pixels that are not one after another")
    _check_size(mode, width, height, view.nbytes)
    for key, item in checks.need("info of an image", info, dict).items():
        checks.need("key in the info of an image", key, str, int)
        _decode_info(item)
    if (palette is not None) != (mode in ("P", "PA")):
        raise ValueError("the peer sent an image of this mode with the wrong palette")
    colours = None if palette is None else _decode_palette(palette)
    image = PIL.Image.new(mode, (width, height), None)
    if view.nbytes:
        image.frombytes(view.cast("B"))
    if colours:
        image.putpalette(colours[1], colours[0])
        if image.mode != mode:
            raise ValueError("the peer sent a palette for an image that has none")
    image.info = info
    return image


def converters(package: str) -> list[Converter]:
    """Return the converter for images. One of a file arrives as a plain image, as its copy is."""
    return [Converter(PIL.Image.Image, "PIL.Image.Image", encode, decode, True)]
