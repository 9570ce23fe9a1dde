"""Image tokens of the diffusion setting: pictures as latents, and latents as pictures again.

Two kinds: ``pixels`` (the picture itself, in [-1, 1]) and ``vae`` (a diffusers ``AutoencoderKL``,
loaded or fitted). Cutting latents into tokens is the work of the model's patch codec.

Letters in tensor names: N pictures, H/W pixels, C x h x w latents of one picture.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from torch import Tensor

from mot_lab.tokens.autoencoder import (
    AutoencoderConfig,
    Pictures,
    decode_pixels,
    downsampling,
    encode_mean,
    fitted_autoencoder,
    to_bytes,
    to_unit_range,
)
from mot_lab.tokens.pretrained import (
    pretrained_autoencoder,
    pretrained_latent_shape,
    weights_hash,
)

Kind = Literal["vae", "pixels"]
CODING_BATCH = 256


@dataclass
class ImageTokenizerConfig:
    """Which image tokenizer a run uses.

    Attributes:
        kind: ``vae`` for the latents of an autoencoder, ``pixels`` for none.
        path: of a ``vae`` to be used as it is: a folder that diffusers saved, or a hub id.
        subfolder: where in ``path`` it lies; often "vae" in a pipeline's repository.
        fit: the autoencoder that is fitted on the data where no path is given.
    """

    kind: Kind = "vae"
    path: str | None = None
    subfolder: str = ""
    fit: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"image tokenizer {self.kind!r} is none of {', '.join(get_args(Kind))}"
            )
        if self.kind == "pixels" and self.path is not None:
            raise ValueError(
                f"kind 'pixels' has nothing to load from {self.path!r}: say kind 'vae'"
            )

    def latent_shape(self, canvas: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a ``canvas`` x ``canvas`` picture, without fitting anything.

        Raises:
            ValueError: where the autoencoder is not found, or does not halve the canvas evenly.
        """
        if self.kind == "pixels":
            return 3, canvas, canvas
        if self.path is not None:
            return pretrained_latent_shape(self.path, self.subfolder, canvas)
        return self.fit.latent_shape(canvas)


class ImageTokenizer(ABC):
    """Pictures to latents and back, in batches and without gradients.

    Args:
        canvas: pixels of a side of every picture.
        latent_shape: (C, h, w) of one picture.
        fingerprint: hash of all that the latents depend on beside the pictures, for cache keys.
    """

    def __init__(self, canvas: int, latent_shape: tuple[int, int, int], fingerprint: str) -> None:
        self.canvas = canvas
        self.latent_shape = latent_shape
        self.fingerprint = fingerprint

    @abstractmethod
    def _encode(self, pixels_NCHW: Tensor) -> Tensor: ...

    @abstractmethod
    def _decode(self, latents_NChw: Tensor) -> Tensor: ...

    def encode(self, images_NHWC: np.ndarray) -> Tensor:
        """Latents of uint8 pictures [N, H, W, 3]: float32 [N, C, h, w] on the CPU.

        Nothing is drawn at random; only rounding depends on the size of the batch.
        """
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
                for part_NHWC in pixels_NHWC.split(CODING_BATCH)
            ]
            latents_NChw = torch.cat(parts)
        return latents_NChw.clone()  # an ordinary tensor, which a loss may be taken of

    def decode(self, latents_NChw: Tensor) -> np.ndarray:
        """Pictures of latents [N, C, h, w]: uint8 [N, H, W, 3], clipped to what bytes hold."""
        if latents_NChw.shape[1:] != self.latent_shape or not len(latents_NChw):
            raise ValueError(
                f"latents are {list(latents_NChw.shape)}; give [N, C, h, w] with N > 0 and "
                f"(C, h, w) = {self.latent_shape}"
            )
        with torch.inference_mode():
            parts = [
                to_bytes(self._decode(part_NChw.float())).cpu()
                for part_NChw in latents_NChw.split(CODING_BATCH)
            ]
            return torch.cat(parts).numpy()

    def reconstruction_error(self, images_NHWC: np.ndarray) -> dict[str, Any]:
        """How much encoding and decoding loses: to be printed beside what rests on it.

        Returns:
            ``mse``: mean squared error of colours in [0, 1], over all pictures; ``psnr``: in dB, of
            that mean, None where nothing is lost; ``n``: pictures.
        """
        decoded_NHWC = self.decode(self.encode(images_NHWC))
        difference = decoded_NHWC.astype(np.float64) - images_NHWC.astype(np.float64)
        mse = float(np.square(difference / 255).mean())
        psnr = -10 * math.log10(mse) if mse > 0 else None
        return {"mse": mse, "psnr": psnr, "n": len(images_NHWC)}


class PixelTokenizer(ImageTokenizer):
    """No autoencoder: latents are pixels in [-1, 1], and nothing is lost."""

    def __init__(self, canvas: int) -> None:
        super().__init__(canvas, (3, canvas, canvas), "pixels")

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        return pixels_NCHW

    def _decode(self, latents_NChw: Tensor) -> Tensor:
        return latents_NChw


class AutoencoderTokenizer(ImageTokenizer):
    """Latents of an ``AutoencoderKL``: the posterior's mean, so without chance, then normalised.

    Each channel has zero mean and unit variance over the pictures that it was measured on:
    ``latents_mean`` and ``latents_std`` of the model's configuration, as diffusers names them.

    Args:
        model: with those statistics in its configuration; moved nowhere, switched to inference.
        canvas: pixels of a side of every picture.
    """

    def __init__(self, model: AutoencoderKL, canvas: int) -> None:
        self.model = model.eval().requires_grad_(False)
        mean, deviation = (
            torch.tensor(values, device=model.device).reshape(1, -1, 1, 1)
            for values in (model.config["latents_mean"], model.config["latents_std"])
        )
        self._mean_1C11, self._deviation_1C11 = mean, deviation
        cells = canvas // downsampling(model.config)
        latent_shape = (model.config["latent_channels"], cells, cells)
        super().__init__(canvas, latent_shape, weights_hash(model))

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        mean_NChw = encode_mean(self.model, pixels_NCHW.to(self.model.device))
        return (mean_NChw - self._mean_1C11) / self._deviation_1C11

    def _decode(self, latents_NChw: Tensor) -> Tensor:
        latents_NChw = latents_NChw.to(self.model.device)
        return decode_pixels(self.model, latents_NChw * self._deviation_1C11 + self._mean_1C11)


def load_image_tokenizer(
    config: ImageTokenizerConfig,
    canvas: int,
    images: Pictures,
    key: Any,
    device: torch.device | str = "cpu",
) -> ImageTokenizer:
    """The tokenizer of a config; what has to be fitted or measured is found in the cache again.

    Args:
        canvas: pixels of a side of every picture.
        images: gives training pictures; called only when there is something to fit or measure.
        key: what determines those pictures (JSON or dataclasses), for the cache.
        device: where an autoencoder is fitted and used.
    """
    config.latent_shape(canvas)  # a canvas that does not fit fails before anything is fitted
    if config.kind == "pixels":
        return PixelTokenizer(canvas)
    if config.path is not None:
        model = pretrained_autoencoder(config.path, config.subfolder, images, key, device)
    else:
        model = fitted_autoencoder(config.fit, canvas, images, key, device)
    return AutoencoderTokenizer(model, canvas)
