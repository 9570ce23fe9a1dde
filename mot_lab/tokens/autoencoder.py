"""A small diffusers ``AutoencoderKL`` for image latents: built, fitted, its latents measured.

Letters in tensor names: N pictures, C latent channels or 3 colours, H/W pixels, h/w latent cells.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from rich.progress import track
from torch import Tensor

from mot_lab.runtime.cache import cached

FIT_VERSION = 1  # raised whenever the same config and pictures would give other weights
MEASURED_PICTURES = 1024
MEASURED_BATCH = 64
NORM_GROUPS = 16
WIDTH_UNIT = 2 * NORM_GROUPS  # normalising channels one by one would erase plain colours
# Bias of the log variance before fitting: a posterior as wide as diffusers' initial weights make it
# drowns the latents, and the first hundreds of steps are lost.
INITIAL_LOG_VARIANCE = -6.0

# pictures(start, count): training pictures start .. start + count, uint8 [count, H, W, 3].
Pictures = Callable[[int, int], np.ndarray]


@dataclass
class AutoencoderConfig:
    """An autoencoder and how it is fitted.

    Attributes:
        downsample: pixels of a side of one latent cell, a power of two.
        latent_channels: numbers per latent cell.
        space_to_depth: pixels of a side that become channels before the first convolution, a power
            of two up to ``downsample``. Convolutions at few positions are what makes it fast.
        width: channels of the first convolution, a multiple of 32; they double at each halving.
        fit_steps: optimiser steps.
        batch_size: pictures of a step; every step sees new ones where the source has them.
        learning_rate: peak of AdamW's rate, reached after 5% of the steps, then cosine to zero.
        kl_weight: weight of the KL divergence per latent number beside the mean squared error of
            pixels in [-1, 1].
        latent_noise: standard deviation of the noise added to latents while fitting, in units of
            each channel's own. A decoder that has seen it forgives a diffusion model's errors.
        seed: of the initial weights and the noise.
    """

    downsample: int = 8
    latent_channels: int = 16
    space_to_depth: int = 8
    width: int = 64
    fit_steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 2e-3
    kl_weight: float = 1e-3
    latent_noise: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("downsample", "space_to_depth"):
            if getattr(self, name) < 1 or getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(
                    f"{name} {getattr(self, name)} must be 1, 2, 4 or a higher power of two"
                )
        if self.space_to_depth > self.downsample:
            raise ValueError(
                f"space_to_depth {self.space_to_depth} must be at most downsample {self.downsample}"
            )
        if self.width < 1 or self.width % WIDTH_UNIT:
            raise ValueError(f"width {self.width} must be a positive multiple of {WIDTH_UNIT}")
        for name in ("latent_channels", "fit_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")

    def latent_shape(self, canvas: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of one picture."""
        return picture_latent_shape(self.latent_channels, self.downsample, canvas)


def picture_latent_shape(channels: int, downsample: int, canvas: int) -> tuple[int, int, int]:
    """(C, h, w) of the latents of one picture; ValueError where the canvas does not divide."""
    if canvas % downsample:
        raise ValueError(
            f"an autoencoder that makes {downsample} x {downsample} pixels one latent cell does "
            f"not fit a canvas of {canvas}: change one of them"
        )
    return channels, canvas // downsample, canvas // downsample


def to_unit_range(pixels_NHWC: Tensor) -> Tensor:
    """uint8 pictures [N, H, W, 3] as float32 [N, 3, H, W] in [-1, 1]."""
    return pixels_NHWC.permute(0, 3, 1, 2).contiguous().float().div(127.5).sub(1)


def to_bytes(pixels_NCHW: Tensor) -> Tensor:
    """float pictures [N, 3, H, W] in [-1, 1] as uint8 [N, H, W, 3], clipped."""
    levels_NCHW = pixels_NCHW.add(1).mul(127.5).round().clamp(0, 255)
    return levels_NCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def pixels_per_side(model_config: Mapping[str, Any]) -> int:
    """p of an autoencoder that reads p x p pixels as 3 * p * p channels; 1 for the usual kind."""
    side = math.isqrt(model_config["in_channels"] // 3)
    if 3 * side**2 != model_config["in_channels"]:
        raise ValueError(
            f"an autoencoder of {model_config['in_channels']} channels reads no RGB pictures"
        )
    return side


def downsampling(model_config: Mapping[str, Any]) -> int:
    """Pixels of a side of one latent cell."""
    return pixels_per_side(model_config) * 2 ** (len(model_config["block_out_channels"]) - 1)


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
    levels = (config.downsample // config.space_to_depth).bit_length()
    channels = 3 * config.space_to_depth**2
    model = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.width * 2**level for level in range(levels)),
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=NORM_GROUPS,
        sample_size=canvas // config.space_to_depth,
        mid_block_add_attention=False,
    )
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
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_autoencoder(config, canvas)
    model.to(device).train()  # type: ignore[arg-type]  # diffusers' wrapper hides the signature
    generator = torch.Generator(device).manual_seed(config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.learning_rate,
        total_steps=config.fit_steps,
        pct_start=0.05,
        cycle_momentum=False,
    )
    for step in track(range(config.fit_steps), description="fitting the image autoencoder"):
        images_NHWC = pictures(step * config.batch_size, config.batch_size)
        pixels_NCHW = to_unit_range(torch.from_numpy(images_NHWC).to(device))
        optimizer.zero_grad()
        _loss(model, pixels_NCHW, config, generator).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


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
