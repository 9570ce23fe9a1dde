"""What every image tokenizer shares: pictures as numbers and back, checked, in batches, measured.

Letters in tensor names: N pictures, H/W pixels.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# pictures(start, count): training pictures start .. start + count, uint8 [count, H, W, 3].
Pictures = Callable[[int, int], np.ndarray]

CODING_PIXELS = 256 * 32 * 32  # coded at a time: a network's activations grow with them


def to_unit_range(pixels_NHWC: Tensor) -> Tensor:
    """uint8 pictures [N, H, W, 3] as float32 [N, 3, H, W] in [-1, 1]."""
    return pixels_NHWC.permute(0, 3, 1, 2).contiguous().float().div(127.5).sub(1)


def to_bytes(pixels_NCHW: Tensor) -> Tensor:
    """float pictures [N, 3, H, W] in [-1, 1] as uint8 [N, H, W, 3], clipped."""
    levels_NCHW = pixels_NCHW.add(1).mul(127.5).round().clamp(0, 255)
    return levels_NCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def cells_per_side(downsample: int, canvas: int) -> int:
    """Latent cells of a side of one picture; ValueError where the canvas does not divide."""
    if canvas % downsample:
        raise ValueError(
            f"downsample {downsample}: a network that makes {downsample} x {downsample} pixels one "
            f"latent cell does not fit a canvas of {canvas}; change one of them"
        )
    return canvas // downsample


class PictureCoder(ABC):
    """Pictures to what a model reads and back, in batches and without gradients.

    Args:
        canvas: pixels of a side of every picture.
        fingerprint: hash of all that the result depends on beside the pictures, for cache keys.
        origin: where its weights lie: a folder, a hub id, or "" where it has none.
    """

    def __init__(self, canvas: int, fingerprint: str, origin: str) -> None:
        self.canvas = canvas
        self.fingerprint = fingerprint
        self.origin = origin

    @abstractmethod
    def _encode(self, pixels_NCHW: Tensor) -> Tensor: ...

    @abstractmethod
    def _decode(self, encoded: Tensor) -> Tensor: ...

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a folder that the configuration's ``path`` loads again."""

    def reconstruct(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Pictures encoded and decoded: uint8 [N, H, W, 3]."""
        return self._decode_all(self._encode_all(images_NHWC))

    def reconstruction_error(self, images_NHWC: np.ndarray) -> dict[str, Any]:
        """How much encoding and decoding loses: to be printed beside what rests on it.

        Returns:
            ``mse``: mean squared error of colours in [0, 1], over all pictures; ``psnr``: in dB, of
            that mean, None where nothing is lost; ``n``: pictures.
        """
        difference = self.reconstruct(images_NHWC).astype(np.float64) - images_NHWC.astype(
            np.float64
        )
        mse = float(np.square(difference / 255).mean())
        psnr = -10 * math.log10(mse) if mse > 0 else None
        return {"mse": mse, "psnr": psnr, "n": len(images_NHWC)}

    def _encode_all(self, images_NHWC: np.ndarray) -> Tensor:
        """All pictures encoded, on the CPU; ValueError where they are no pictures of this size."""
        expected = (self.canvas, self.canvas, 3)
        wrong = images_NHWC.dtype != np.uint8 or images_NHWC.shape[1:] != expected
        if wrong or not len(images_NHWC):
            raise ValueError(
                f"pictures are {images_NHWC.dtype} {list(images_NHWC.shape)}; "
                f"give uint8 [N, {self.canvas}, {self.canvas}, 3] with N > 0"
            )
        with torch.inference_mode():
            pixels_NHWC = torch.from_numpy(np.ascontiguousarray(images_NHWC))
            parts = [
                self._encode(to_unit_range(part_NHWC)).cpu()
                for part_NHWC in pixels_NHWC.split(self._batch)
            ]
            encoded = torch.cat(parts)
        return encoded.clone()  # an ordinary tensor, which a loss may be taken of

    def _decode_all(self, encoded: Tensor) -> np.ndarray:
        """uint8 [N, H, W, 3], clipped to what bytes hold."""
        with torch.inference_mode():
            parts = [to_bytes(self._decode(part)).cpu() for part in encoded.split(self._batch)]
            return torch.cat(parts).numpy()

    @property
    def _batch(self) -> int:
        return max(1, CODING_PIXELS // self.canvas**2)
