"""A small diffusers ``VQModel`` for discrete image tokens: built and fitted.

Letters in tensor names: N pictures, C 3 colours, H/W pixels, D latent channels, h/w latent cells,
M = N * h * w latents, P = h * w codes of one picture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import VQModel
from torch import Tensor

from mot_lab.limits import MOST_PLACES, require_between
from mot_lab.runtime.cache import cached
from mot_lab.tokens.fitting import MOST_WEIGHT, FittedConfig, fit_network, pixels_per_side, seeded
from mot_lab.tokens.pictures import Pictures, cells_per_side
from mot_lab.tokens.vq_codebook import FittedCodebook

FIT_VERSION = 1  # raised whenever the same config and pictures would give other weights


@dataclass
class VQConfig(FittedConfig):
    """A VQ-VAE and how it is fitted, beside what :class:`FittedConfig` says.

    The paper's Chameleon setting has ``size: 8192, downsample: 16`` on a canvas of 512; the
    defaults are for small scenes.

    Attributes:
        size: codes of the codebook.
        commitment: weight of the squared distance of latents from their codes beside the mean
            squared error of pixels in [-1, 1] (0.25: van den Oord et al. 2017, equation 3, and the
            discrete twin of the Transfusion paper).
    """

    downsample: int = 4
    latent_channels: int = 32
    space_to_depth: int = 4
    width: int = 64
    fit_steps: int = 1500
    learning_rate: float = 3e-3
    size: int = 512
    commitment: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, 2, MOST_PLACES, "size")
        require_between(self, 0, MOST_WEIGHT, "commitment")

    def codes(self, canvas: int) -> tuple[int, int]:
        """(codes there are, codes of one picture); ValueError where the canvas does not divide."""
        return self.size, cells_per_side(self.downsample, canvas) ** 2


def build_vq(config: VQConfig, canvas: int) -> VQModel:
    """The untrained network, of convolutions only."""
    return VQModel(**config.network(canvas), num_vq_embeddings=config.size)


def encode_codes(model: VQModel, pixels_NCHW: Tensor) -> Tensor:
    """Codes [N, P] of pictures, row by row."""
    latents_NDhw = _latents(model, pixels_NCHW)
    codes_M = model.quantize(latents_NDhw)[2][2]
    return codes_M.reshape(len(latents_NDhw), -1)


def decode_codes(model: VQModel, codes_NP: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of the codes of square pictures."""
    side = round(codes_NP.shape[1] ** 0.5)
    quantized_NPD = model.quantize.embedding(codes_NP)
    return _decode(model, quantized_NPD.unflatten(1, (side, side)).permute(0, 3, 1, 2))


def _latents(model: VQModel, pixels_NCHW: Tensor) -> Tensor:
    return model.encode(F.pixel_unshuffle(pixels_NCHW, pixels_per_side(model.config))).latents


def _decode(model: VQModel, quantized_NDhw: Tensor) -> Tensor:
    # VQModel.decode looks up codes only with a switch in its configuration, which few have set.
    spatial = quantized_NDhw if model.config["norm_type"] == "spatial" else None
    decoded = model.decoder(model.post_quant_conv(quantized_NDhw), spatial)
    return F.pixel_shuffle(decoded, pixels_per_side(model.config))


def fit_vq(
    config: VQConfig, canvas: int, pictures: Pictures, device: torch.device | str
) -> VQModel:
    """Fit a VQ-VAE in fp32, with a progress bar.

    The codebook follows its latents by moving averages (:class:`FittedCodebook`); the gradient goes
    straight through it. The same config and pictures give the same weights on the same machine.
    """
    model = seeded(config, lambda: build_vq(config, canvas))
    model.to(device)  # type: ignore[arg-type]  # diffusers' wrapper hides the signature
    weight_KD = model.quantize.embedding.weight.requires_grad_(False)
    codebook = FittedCodebook(weight_KD, config.seed)

    def loss(pixels_NCHW: Tensor) -> Tensor:
        latents_NDhw = _latents(model, pixels_NCHW)
        latents_NhwD = latents_NDhw.permute(0, 2, 3, 1)
        latents_MD = latents_NhwD.flatten(0, 2)
        codebook.update(latents_MD.detach())
        chosen_MD = weight_KD[codebook.nearest(latents_MD.detach())]
        chosen_NDhw = chosen_MD.reshape(latents_NhwD.shape).permute(0, 3, 1, 2)
        straight_NDhw = latents_NDhw + (chosen_NDhw - latents_NDhw).detach()
        error = (_decode(model, straight_NDhw) - pixels_NCHW).square().mean()
        return error + config.commitment * (latents_NDhw - chosen_NDhw).square().mean()

    return fit_network(model, loss, config, pictures, device, "the image tokenizer")


def fitted_vq(
    config: VQConfig, canvas: int, pictures: Pictures, key: Any, device: torch.device | str
) -> VQModel:
    """The VQ-VAE fitted on these pictures; from the cache if it is there.

    Args:
        key: what determines the pictures (JSON or dataclasses).
    """

    def build(folder: Path) -> None:
        fit_vq(config, canvas, pictures, device).save_pretrained(folder)

    determinants = {"version": FIT_VERSION, "config": config, "canvas": canvas, "pictures": key}
    folder = cached("image-vq", determinants, build)
    return VQModel.from_pretrained(folder, low_cpu_mem_usage=False).to(device).eval()
