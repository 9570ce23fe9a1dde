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
from PIL import Image

from mot_lab.data.picture_files import eight_bits, open_picture, require_size

ENDINGS: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ENDINGS += (".ppm", ".pgm", ".pbm", ".jp2", ".avif")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_picture(path: Path) -> tuple[np.ndarray, list[str]]:
    """A picture as uint8 [H, W, C], and its oddities in words (``GREY`` and so on).

    Grey becomes three equal channels and transparency is laid on white; see ``eight_bits`` for the
    rest. Plain 8-bit RGB is what ``Image.convert("RGB")`` gives.

    Raises:
        ValueError: it cannot be read, with the reason; its path is not in the message.
    """
    try:
        with open_picture(path) as opened:
            image, oddities = eight_bits(opened)
            if image.mode == "RGBA":
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), oddities
    except Exception as error:  # decoders of broken files raise anything, struct.error included
        raise ValueError(_reason(path, error)) from error


def problem_with(path: Path) -> str | None:
    """Why a file is no whole picture, found without the work of decoding where that can be.

    PNG by its checksums, JPEG by decoding an eighth of its size, other formats by decoding.
    """
    try:
        if not path.is_file():
            return "no regular file"
        data = path.read_bytes()
        if data.startswith(PNG_SIGNATURE):
            _require_whole_png(data)
            return None
        with open_picture(io.BytesIO(data)) as image:
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
        if kind == b"IHDR":
            require_size(*struct.unpack_from(">II", data, place + 8))
        end = place + 8 + length
        (stored,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[place + 4 : end]) != stored:
            raise ValueError(f"broken PNG: wrong checksum of chunk {kind!r}")
        place = end + 4


def _reason(path: Path, error: Exception) -> str:
    if path.is_file() and not path.stat().st_size:
        return "empty file"
    if isinstance(error, struct.error):
        return "truncated file"
    return str(error) or type(error).__name__
