"""Anyone's picture files as 8-bit RGB, the right way up, and what had to be done to them.

Only Pillow's plain decoders are let near a file: by content it would run Ghostscript on PostScript
that is called ``x.png``.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
PIXELS = 1 << 26  # largest picture: 8,192 x 8,192, or 256 MiB decoded
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION = 0x0112  # of EXIF

GREY = "grey"
TRANSPARENT = "with transparency, laid on white"
SIXTEEN_BITS = "of 16 bits, of which the upper 8 count"
PALETTE = "with a palette"
TURNED = "turned as their EXIF says"
FRAMES = "of several frames, of which the first counts"


def open_picture(source: Path | io.BytesIO) -> Image.Image:
    """A picture file by its content, not decoded yet.

    Raises:
        ValueError: of no format of ``FORMATS``, of no or too many pixels, or of samples without a
            fixed white; its path is not in the message. Whatever Pillow raises on broken files.
    """
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("no regular file")
    Image.init()
    try:
        image = Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        raise ValueError("not a picture") from None
    except Image.DecompressionBombError:
        raise ValueError(_too_large("its size")) from None
    try:
        require_size(*image.size)
        # Modes of 32 bits; "I" of PNG and PPM holds 16.
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
            raise ValueError(
                f"32-bit samples (mode {image.mode}) have no fixed white: save 8 or 16"
            )
    except ValueError:
        image.close()
        raise
    return image


def require_size(width: int, height: int) -> None:
    """Raises ValueError for a picture without pixels, or with more than ``PIXELS``."""
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels hold nothing")
    if width * height > PIXELS:
        raise ValueError(_too_large(f"{width} x {height}"))


def eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """An opened picture, decoded, and its oddities in words (``GREY`` and so on).

    A rotation in EXIF is carried out, 16 bits lose the lower 8 (as Pillow does with colour: 65,535
    is 255 and 32,768 is 128), and of several frames the first is taken.

    Returns:
        Of mode RGB, or RGBA where something is transparent.
    """
    oddities = _oddities(image)
    turn = image.getexif().get(ORIENTATION, 1)
    if turn in range(2, 9):
        oddities.append(TURNED)
        image = ImageOps.exif_transpose(image)
    if SIXTEEN_BITS in oddities and image.mode.startswith("I"):
        grey_HW = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        image = Image.fromarray(grey_HW)
    if TRANSPARENT in oddities:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            return layer, oddities
        oddities.remove(TRANSPARENT)  # an alpha channel that hides nothing changes nothing
        image = layer
    # To convert RGB to RGB would take a quarter of the time of reading a small picture.
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB"), oddities


def _oddities(image: Image.Image) -> list[str]:
    found = {
        GREY: image.mode in GREY_MODES,
        TRANSPARENT: image.mode in TRANSPARENT_MODES or "transparency" in image.info,
        SIXTEEN_BITS: _has_sixteen_bits(image),
        PALETTE: image.mode in ("P", "PA"),
        FRAMES: getattr(image, "is_animated", False),
        f"of colour space {image.mode}": image.mode in ("CMYK", "YCbCr", "LAB", "HSV"),
    }
    return [oddity for oddity, there in found.items() if there]


def _has_sixteen_bits(image: Image.Image) -> bool:
    """By the layout of the samples in the file: Pillow gives 16-bit colour as 8-bit RGB."""
    if image.mode.startswith("I"):
        return True  # 32-bit ones are refused before
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else None
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    largest = arguments[1] if image.format == "PPM" and isinstance(arguments, tuple) else 0
    return "16" in str(layout) or (isinstance(largest, int) and largest > 255)


def _too_large(what: str) -> str:
    return f"{what} is more than {PIXELS:,} pixels: make it smaller"
