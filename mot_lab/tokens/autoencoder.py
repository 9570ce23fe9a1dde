"""A small diffusers ``AutoencoderKL`` for image latents: built, fitted, its latents measured.

Letters in tensor names: N pictures, C latent channels or 3 colours, H/W pixels, h/w latent cells.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from mot_lab.limits import require_between
from mot_lab.runtime.cache import cached
from mot_lab.tokens.fitting import MOST_WEIGHT, FittedConfig, fit_network, pixels_per_side, seeded
from mot_lab.tokens.pictures import Pictures, cells_per_side, to_unit_range

FIT_VERSION = 1  # raised whenever the same config and pictures would give other weights
MEASURED_PICTURES = 1024
MEASURED_BATCH = 64
# Bias of the log variance before fitting: a posterior as wide as diffusers' initial weights make it
# drowns the latents, and the first hundreds of steps are lost.
INITIAL_LOG_VARIANCE = -6.0


@dataclass
class AutoencoderConfig(FittedConfig):
    """An autoencoder and how it is fitted, beside what :class:`FittedConfig` says.

    Attributes:
        kl_weight: weight of the KL divergence per latent number beside the mean squared error of
            pixels in [-1, 1].
        latent_noise: standard deviation of the noise added to latents while fitting, in units of
            each channel's own. A decoder that has seen it forgives a diffusion model's errors.
    """

    kl_weight: float = 1e-3
    latent_noise: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, 0, MOST_WEIGHT, "kl_weight", "latent_noise")

    def latent_shape(self, canvas: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of one picture."""
        return picture_latent_shape(self.latent_channels, self.downsample, canvas)


def picture_latent_shape(channels: int, downsample: int, canvas: int) -> tuple[int, int, int]:
    """(C, h, w) of the latents of one picture; ValueError where the canvas does not divide."""
    cells = cells_per_side(downsample, canvas)
    return channels, cells, cells


def encode_mean(model: AutoencoderKL, pixels_NCHW: Tensor) -> Tensor:
    """The posterior's mean, [N, C, h, w], not normalised."""
    return _posterior(model, pixels_NCHW).mean


def decode_pixels(model: AutoencoderKL, latents_NChw: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of latents that are not normalised."""
    return F.pixel_shuffle(model.decode(latents_NChw).sample, pixels_per_side(model.config))


def _posterior(model: AutoencoderKL, pixels_NCHW: Tensor) -> DiagonalGaussianDistribution:
    return model.encode(F.pixel_unshuffle(pixels_NCHW, pixels_per_side(model.config))).latent_dist


def build_autoencoder(config: AutoencoderConfig, canvas: int) -> AutoencoderKL:
    """The untrained network, of convolutions only."""
    model = AutoencoderKL(**config.network(canvas))
    with torch.no_grad():
        model.quant_conv.bias[config.latent_channels :] += INITIAL_LOG_VARIANCE
    return model


def fit_autoencoder(
    config: AutoencoderConfig, canvas: int, pictures: Pictures, device: torch.device | str
) -> AutoencoderKL:
    """Fit an autoencoder in fp32, with a progress bar.

    The loss is the mean squared error of pixels plus ``kl_weight`` times the KL divergence per
    latent number. The same config and pictures give the same weights on the same machine.
    """
    model = seeded(config, lambda: build_autoencoder(config, canvas))
    model.to(device)  # type: ignore[arg-type]  # diffusers' wrapper hides the signature
    generator = torch.Generator(device).manual_seed(config.seed)

    def loss(pixels_NCHW: Tensor) -> Tensor:
        return _loss(model, pixels_NCHW, config, generator)

    return fit_network(model, loss, config, pictures, device, "the image autoencoder")


def _loss(
    model: AutoencoderKL, pixels_NCHW: Tensor, config: AutoencoderConfig, generator: torch.Generator
) -> Tensor:
    posterior = _posterior(model, pixels_NCHW)
    latents_NChw = posterior.sample(generator)
    # The noise grows with the latents, gradient included: the encoder cannot drown it by scale.
    spread_1C11 = latents_NChw.std(dim=(0, 2, 3), keepdim=True)
    noise_NChw = torch.randn(latents_NChw.shape, generator=generator, device=latents_NChw.device)
    noisy_NChw = latents_NChw + config.latent_noise * spread_1C11 * noise_NChw
    decoded_NCHW = decode_pixels(model, noisy_NChw)
    error = (decoded_NCHW - pixels_NCHW).square().mean()
    divergence = posterior.kl().mean() / latents_NChw[0].numel()
    return error + config.kl_weight * divergence


@torch.inference_mode()
def latent_statistics(model: AutoencoderKL, pictures: Pictures) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over training pictures."""
    means = []
    for start in range(0, MEASURED_PICTURES, MEASURED_BATCH):
        images_NHWC = torch.from_numpy(pictures(start, MEASURED_BATCH)).to(model.device)
        means.append(encode_mean(model, to_unit_range(images_NHWC)).double())
    latents_NChw = torch.cat(means)
    mean_C = latents_NChw.mean(dim=(0, 2, 3))
    deviation_C = latents_NChw.std(dim=(0, 2, 3))
    return mean_C.tolist(), deviation_C.tolist()


def register_statistics(model: AutoencoderKL, mean: list[float], deviation: list[float]) -> None:
    """Keep the statistics in the model's configuration, where diffusers has its names for them."""
    model.register_to_config(latents_mean=mean, latents_std=deviation)


def fitted_autoencoder(
    config: AutoencoderConfig, canvas: int, pictures: Pictures, key: Any, device: torch.device | str
) -> AutoencoderKL:
    """The autoencoder fitted on these pictures, with its statistics; from the cache if it is there.

    Args:
        key: what determines the pictures (JSON or dataclasses).
    """

    def build(folder: Path) -> None:
        model = fit_autoencoder(config, canvas, pictures, device)
        register_statistics(model, *latent_statistics(model, pictures))
        model.save_pretrained(folder)

    determinants = {"version": FIT_VERSION, "config": config, "canvas": canvas, "pictures": key}
    folder = cached("image-autoencoder", determinants, build)
    return AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).to(device).eval()
