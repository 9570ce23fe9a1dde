"""Image tokens: pictures as latents or as codes, and these as pictures again.

Three kinds: ``pixels`` (the picture itself, in [-1, 1]), ``vae`` (a diffusers ``AutoencoderKL``)
and ``vq`` (discrete codes, see ``vq.py``), loaded or fitted. Cutting latents into tokens is the
work of the model's patch codec.

Letters in tensor names: N pictures, H/W pixels, C x h x w latents of one picture.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from torch import Tensor

from mot_lab.tokens.autoencoder import (
    AutoencoderConfig,
    decode_pixels,
    encode_mean,
    fitted_autoencoder,
)
from mot_lab.tokens.fitting import downsampling
from mot_lab.tokens.pictures import PictureCoder, Pictures
from mot_lab.tokens.pretrained import (
    pretrained_autoencoder,
    pretrained_latent_shape,
    weights_hash,
)
from mot_lab.tokens.vq import DiffusersVQTokenizer, VQTokenizer
from mot_lab.tokens.vq_model import VQConfig, fitted_vq
from mot_lab.tokens.vq_pretrained import pretrained_codes, pretrained_vq

Kind = Literal["vae", "pixels", "vq"]


@dataclass
class ImageTokenizerConfig:
    """Which image tokenizer a run uses.

    Attributes:
        kind: ``vae`` for the latents of an autoencoder, ``pixels`` for none, ``vq`` for discrete
            codes.
        path: of a ``vae`` or ``vq`` to be used as it is: a folder that diffusers saved (or, for
            Chameleon's, transformers), or a hub id.
        subfolder: where in ``path`` it lies; often "vae" in a pipeline's repository.
        fit: the autoencoder that is fitted on the data where no path is given.
        vq: the VQ-VAE that is.
    """

    kind: Kind = "vae"
    path: str | None = None
    subfolder: str = ""
    fit: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    vq: VQConfig = field(default_factory=VQConfig)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"image tokenizer {self.kind!r} is none of {', '.join(get_args(Kind))}"
            )
        if self.kind == "pixels" and self.path is not None:
            raise ValueError(
                f"kind 'pixels' has nothing to load from {self.path!r}: say kind 'vae' or 'vq'"
            )

    def latent_shape(self, canvas: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a ``canvas`` x ``canvas`` picture, without fitting anything.

        Raises:
            ValueError: where the kind has none, the autoencoder is not found, or it does not halve
                the canvas evenly.
        """
        if self.kind == "vq":
            raise ValueError("an image tokenizer of kind 'vq' has codes, no latents: say 'vae'")
        if self.kind == "pixels":
            return 3, canvas, canvas
        if self.path is not None:
            return pretrained_latent_shape(self.path, self.subfolder, canvas)
        return self.fit.latent_shape(canvas)

    def codes(self, canvas: int) -> tuple[int, int]:
        """(codes there are, codes of a ``canvas`` x ``canvas`` picture), without fitting anything.

        Raises:
            ValueError: where the kind has none, the model is not found, or it does not halve the
                canvas evenly.
        """
        if self.kind != "vq":
            raise ValueError(
                f"an image tokenizer of kind {self.kind!r} has latents, no codes: say 'vq'"
            )
        if self.path is not None:
            return pretrained_codes(self.path, self.subfolder, canvas)
        return self.vq.codes(canvas)


class ImageTokenizer(PictureCoder):
    """Pictures to latents and back, in batches and without gradients.

    Args:
        canvas: pixels of a side of every picture.
        latent_shape: (C, h, w) of one picture.
        fingerprint, origin: see :class:`PictureCoder`.
    """

    def __init__(
        self, canvas: int, latent_shape: tuple[int, int, int], fingerprint: str, origin: str
    ) -> None:
        super().__init__(canvas, fingerprint, origin)
        self.latent_shape = latent_shape

    def encode(self, images_NHWC: np.ndarray) -> Tensor:
        """Latents of uint8 pictures [N, H, W, 3]: float32 [N, C, h, w] on the CPU.

        Nothing is drawn at random; only rounding depends on the size of the batch.
        """
        return self._encode_all(images_NHWC)

    def decode(self, latents_NChw: Tensor) -> np.ndarray:
        """Pictures of latents [N, C, h, w]: uint8 [N, H, W, 3], clipped to what bytes hold."""
        if latents_NChw.shape[1:] != self.latent_shape or not len(latents_NChw):
            raise ValueError(
                f"latents are {list(latents_NChw.shape)}; give [N, C, h, w] with N > 0 and "
                f"(C, h, w) = {self.latent_shape}"
            )
        return self._decode_all(latents_NChw.float())


class PixelTokenizer(ImageTokenizer):
    """No autoencoder: latents are pixels in [-1, 1], and nothing is lost."""

    def __init__(self, canvas: int) -> None:
        super().__init__(canvas, (3, canvas, canvas), "pixels", "")

    def save(self, folder: Path) -> None:
        """There is nothing to write: always ValueError."""
        raise ValueError("pixels are their own tokens: there is no image tokenizer to save")

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        return pixels_NCHW

    def _decode(self, encoded: Tensor) -> Tensor:
        return encoded


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
        origin = str(model.config["_name_or_path"])
        super().__init__(canvas, latent_shape, weights_hash(model.config, model), origin)

    def save(self, folder: Path) -> None:
        """Write a folder that diffusers loads, with the statistics."""
        self.model.save_pretrained(folder)

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        mean_NChw = encode_mean(self.model, pixels_NCHW.to(self.model.device))
        return (mean_NChw - self._mean_1C11) / self._deviation_1C11

    def _decode(self, encoded: Tensor) -> Tensor:
        latents_NChw = encoded.to(self.model.device)
        return decode_pixels(self.model, latents_NChw * self._deviation_1C11 + self._mean_1C11)


def load_image_tokenizer(
    config: ImageTokenizerConfig,
    canvas: int,
    images: Pictures,
    key: Any,
    device: torch.device | str = "cpu",
) -> ImageTokenizer | VQTokenizer:
    """The tokenizer of a config; what has to be fitted or measured is found in the cache again.

    Args:
        canvas: pixels of a side of every picture.
        images: gives training pictures; called only when there is something to fit or measure.
        key: what determines those pictures (JSON or dataclasses), for the cache.
        device: where an autoencoder is fitted and used.
    """
    if config.kind == "vq":
        config.codes(canvas)  # a canvas that does not fit fails before anything is fitted
        if config.path is not None:
            return pretrained_vq(config.path, config.subfolder, canvas, device)
        return DiffusersVQTokenizer(fitted_vq(config.vq, canvas, images, key, device), canvas)
    config.latent_shape(canvas)
    if config.kind == "pixels":
        return PixelTokenizer(canvas)
    if config.path is not None:
        model = pretrained_autoencoder(config.path, config.subfolder, images, key, device)
    else:
        model = fitted_autoencoder(config.fit, canvas, images, key, device)
    return AutoencoderTokenizer(model, canvas)
