"""Anyone's pictures as the squares that tokenizers read.

Shapes: H x W pixels.
"""

import io

import numpy as np
from PIL import Image

from mot_lab.data.picture_files import eight_bits, open_picture, require_size

REDUCING_GAP = 2.0  # as Pillow's thumbnails: coarser decoding down to twice the wanted size


class UnusablePicture(ValueError):
    """No picture that can be decoded."""


def square(data: bytes | np.ndarray, canvas: int) -> np.ndarray:
    """The middle of a picture, the right way up, resized: uint8 [canvas, canvas, 3].

    The largest square in its middle is kept (as Inception's and CLIP's preprocessing do), what is
    transparent lies on white. Of a JPEG no more is decoded than twice the wanted size needs.

    Args:
        data: a file's bytes, or uint8 [H, W, 3].
        canvas: pixels of a side.

    Raises:
        UnusablePicture: nothing that `open_picture` reads, or no array of that shape.
    """
    try:
        return np.array(_resized(_decoded(data, canvas), canvas))
    except Exception as error:  # decoders of broken files raise anything, struct.error included
        raise UnusablePicture(str(error)) from error


def _decoded(data: bytes | np.ndarray, canvas: int) -> Image.Image:
    """Of mode RGB."""
    if isinstance(data, np.ndarray):
        if data.dtype != np.uint8 or data.ndim != 3 or data.shape[2] != 3:
            raise ValueError(f"{data.dtype} {list(data.shape)} is no uint8 [H, W, 3]")
        require_size(*data.shape[1::-1])
        return Image.fromarray(data)
    with open_picture(io.BytesIO(data)) as opened:
        least = int(REDUCING_GAP * canvas)
        opened.draft(None, (least, least))
        image = eight_bits(opened)[0]
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def _resized(image: Image.Image, canvas: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    size = (canvas, canvas)
    return middle.resize(size, Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
