"""Reads any picture file as 8-bit RGB, and says what had to be done to it.

Nothing is resized: each extractor brings pictures to its own size (Inception-v3 to 299 x 299,
bilinear as in TensorFlow 1).

Tensor legend: H W C a picture, C = 3.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ENDINGS: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ENDINGS += (".ppm", ".pgm", ".pbm", ".jp2", ".avif")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # of EXIF

GREY = "grey"
TRANSPARENT = "with transparency, laid on white"
SIXTEEN_BITS = "of 16 bits, of which the upper 8 count"
PALETTE = "with a palette"
TURNED = "turned as their EXIF says"
FRAMES = "of several frames, of which the first counts"


def read_picture(path: Path) -> tuple[np.ndarray, list[str]]:
    """A picture as uint8 [H, W, C], and its oddities in words (``GREY`` and so on).

    Grey becomes three equal channels, transparency is laid on white, 16 bits lose the lower 8 (as
    Pillow, and so torch-fidelity, does with colour), a rotation in EXIF is carried out, and of
    several frames the first is taken. Plain 8-bit RGB is what ``Image.convert("RGB")`` gives.

    Raises:
        ValueError: it cannot be read, with the reason; its path is not in the message.
    """
    try:
        with Image.open(path) as image:
            oddities = _oddities(image)
            return _pixels(image, oddities), oddities
    except Exception as error:  # decoders of broken files raise anything, struct.error included
        raise ValueError(_reason(path, error)) from error


def problem_with(path: Path) -> str | None:
    """Why a file is no whole picture, found without the work of decoding where that can be.

    PNG by its checksums, JPEG by decoding an eighth of its size, other formats by decoding.
    """
    try:
        data = path.read_bytes()
        if data.startswith(PNG_SIGNATURE):
            _require_whole_png(data)
            return None
        with Image.open(io.BytesIO(data)) as image:
            _require_mode(image)
            image.draft(None, (1, 1))
            image.load()
    except Exception as error:  # as above
        return _reason(path, error)
    return None


def _require_whole_png(data: bytes) -> None:
    """Every chunk whole, from the first to IEND; a third of the time of ``Image.verify``."""
    kind, place = b"", len(PNG_SIGNATURE)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        (stored,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[place + 4 : end]) != stored:
            raise ValueError(f"broken PNG: wrong checksum of chunk {kind!r}")
        place = end + 4


def _oddities(image: Image.Image) -> list[str]:
    _require_mode(image)
    found = {
        GREY: image.mode in GREY_MODES,
        TRANSPARENT: image.mode in TRANSPARENT_MODES or "transparency" in image.info,
        SIXTEEN_BITS: _has_sixteen_bits(image),
        PALETTE: image.mode in ("P", "PA"),
        FRAMES: getattr(image, "is_animated", False),
        f"of colour space {image.mode}": image.mode in ("CMYK", "YCbCr", "LAB", "HSV"),
    }
    return [oddity for oddity, there in found.items() if there]


def _pixels(image: Image.Image, oddities: list[str]) -> np.ndarray:
    turn = image.getexif().get(ORIENTATION, 1)
    if turn in range(2, 9):
        oddities.append(TURNED)
        image = ImageOps.exif_transpose(image)
    if SIXTEEN_BITS in oddities and image.mode.startswith("I"):
        grey_HW = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        image = Image.fromarray(grey_HW)
    if TRANSPARENT in oddities:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() == (255, 255):
            oddities.remove(TRANSPARENT)  # an alpha channel that hides nothing changes nothing
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    # To convert RGB to RGB would take a quarter of the time of reading a small picture.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _has_sixteen_bits(image: Image.Image) -> bool:
    """By the layout of the samples in the file: Pillow gives 16-bit colour as 8-bit RGB."""
    if image.mode.startswith("I"):
        return True  # 32-bit ones are refused before
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else None
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    largest = arguments[1] if image.format == "PPM" and isinstance(arguments, tuple) else 0
    return "16" in str(layout) or (isinstance(largest, int) and largest > 255)


def _require_mode(image: Image.Image) -> None:
    """Refuses samples without a fixed white."""
    sixteen = image.mode != "I" or image.format in ("PPM", "PNG")
    if image.mode == "F" or not sixteen:
        raise ValueError(f"32-bit samples (mode {image.mode}) have no fixed white: save 8 or 16")


def _reason(path: Path, error: Exception) -> str:
    if path.exists() and not path.stat().st_size:
        return "empty file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, struct.error):
        return "truncated file"
    return str(error) or type(error).__name__
