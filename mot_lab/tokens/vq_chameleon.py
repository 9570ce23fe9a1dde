"""Chameleon's VQ model: the encoder of transformers, and the decoder that transformers leaves out.

Imported only where it is used, for transformers need not be installed.

Letters in tensor names: N pictures, D latent channels, H/W pixels, h/w latent cells, P = h * w.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ChameleonVQVAE
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig
from transformers.models.chameleon.modeling_chameleon import (
    ChameleonVQVAEEncoderAttnBlock,
    ChameleonVQVAEEncoderResnetBlock,
)
from transformers.utils import logging

from mot_lab.tokens.pictures import cells_per_side
from mot_lab.tokens.pretrained import weights_hash
from mot_lab.tokens.vq import VQTokenizer

# In a whole Chameleon the VQ model's weights are below this.
INSIDE = {r"^model\.vqmodel\.": ""}


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden_NDhw: Tensor) -> Tensor:
        return self.conv(F.interpolate(hidden_NDhw, scale_factor=2.0))  # type: ignore[no-any-return]


class _Level(nn.Module):
    """The blocks of one resolution, and the way to the next."""

    def __init__(
        self, config: ChameleonVQVAEConfig, wide: int, narrow: int, attends: bool, last: bool
    ) -> None:
        super().__init__()
        into = [wide] + [narrow] * config.num_res_blocks
        self.block = nn.ModuleList(_block(config, channels, narrow) for channels in into)
        attentions = len(into) if attends else 0
        self.attn = nn.ModuleList(_attention(narrow) for _ in range(attentions))
        self.upsample = nn.Identity() if last else _Upsample(narrow)

    def forward(self, hidden_NDhw: Tensor) -> Tensor:
        for place, block in enumerate(self.block):
            hidden_NDhw = block(hidden_NDhw)
            if len(self.attn):
                hidden_NDhw = self.attn[place](hidden_NDhw)
        return self.upsample(hidden_NDhw)  # type: ignore[no-any-return]


class ChameleonDecoder(nn.Module):
    """The decoder of a VQGAN (Esser et al. 2021), with the names that Chameleon's weights have.

    The encoder mirrored, each level with one more block; made of transformers' own blocks.
    """

    def __init__(self, config: ChameleonVQVAEConfig) -> None:
        super().__init__()
        attends = config.attn_type == "vanilla"
        widths = [config.base_channels * factor for factor in config.channel_multiplier]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        middle = {
            "block_1": _block(config, widths[-1], widths[-1]),
            "attn_1": _attention(widths[-1]) if attends else nn.Identity(),
            "block_2": _block(config, widths[-1], widths[-1]),
        }
        self.mid = nn.Sequential(OrderedDict(middle))
        self.up = nn.ModuleList()  # from the pictures' resolution to the latents', run backwards
        for level, (narrow, wide) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
            side = config.resolution // 2**level
            here = attends and side in (config.attn_resolutions or ())
            self.up.append(_Level(config, wide, narrow, here, last=level == 0))
        self.norm_out = nn.GroupNorm(32, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    def forward(self, latents_NDhw: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] of quantised latents, after ``post_quant_conv``."""
        hidden_NDhw = self.mid(self.conv_in(latents_NDhw))
        for level in reversed(range(len(self.up))):
            hidden_NDhw = self.up[level](hidden_NDhw)
        return self.conv_out(F.silu(self.norm_out(hidden_NDhw)))  # type: ignore[no-any-return]


def _block(config: ChameleonVQVAEConfig, wide: int, narrow: int) -> nn.Module:
    return ChameleonVQVAEEncoderResnetBlock(config, wide, narrow)


def _attention(channels: int) -> nn.Module:
    return ChameleonVQVAEEncoderAttnBlock(channels)


class ChameleonVQ(ChameleonVQVAE):
    """transformers' ``ChameleonVQVAE`` with a decoder; None where its checkpoint has none."""

    decoder: ChameleonDecoder | None

    def __init__(self, config: ChameleonVQVAEConfig) -> None:
        super().__init__(config)
        self.decoder = ChameleonDecoder(config)

    def decode_codes(self, codes_NP: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] of the codes of square pictures."""
        assert self.decoder is not None
        side = round(codes_NP.shape[1] ** 0.5)
        quantized_NPD = self.quantize.embedding(codes_NP)
        quantized_NDhw = quantized_NPD.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(quantized_NDhw))  # type: ignore[no-any-return]


def chameleon_codes(config: ChameleonVQVAEConfig, canvas: int) -> tuple[int, int]:
    """(codes there are, codes of one picture); ValueError where the canvas does not divide."""
    downsample = 2 ** (len(config.channel_multiplier) - 1)
    return config.num_embeddings, cells_per_side(downsample, canvas) ** 2


def vq_config(values: dict[str, Any]) -> ChameleonVQVAEConfig:
    """The VQ model's configuration, of its own ``config.json`` or of a whole Chameleon's."""
    return ChameleonVQVAEConfig.from_dict(values.get("vq_config", values))


def plain_config(config: ChameleonVQVAEConfig) -> dict[str, Any]:
    """What of a configuration makes a difference to the codes."""
    written = ("architectures", "dtype", "transformers_version", "_name_or_path")
    return {name: value for name, value in config.to_dict().items() if name not in written}


def load_chameleon_vq(path: str, subfolder: str) -> ChameleonVQ:
    """The VQ model of a folder or hub id, its own or a whole Chameleon's, in fp32.

    Only the VQ model's weights are read of a whole Chameleon.

    Raises:
        OSError, ValueError: it is not there, or lacks weights.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists a whole Chameleon's other weights one by one
    try:
        loaded: Any = ChameleonVQ.from_pretrained(
            path,
            subfolder=subfolder,
            dtype=torch.float32,
            key_mapping=INSIDE,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    model: ChameleonVQ
    model, found = loaded
    missing = set(found["missing_keys"])
    decoder = {name for name in model.state_dict() if name.startswith("decoder.")}
    if decoder <= missing:
        model.decoder = None
        missing -= decoder
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, like {min(missing)}")
    return model.eval()


class ChameleonVQTokenizer(VQTokenizer):
    """Codes of Chameleon's VQ model (transformers), whose pictures are in [-1, 1].

    Args:
        model: moved nowhere.
        canvas: pixels of a side of every picture.
    """

    def __init__(self, model: ChameleonVQ, canvas: int) -> None:
        self.model = model.eval().requires_grad_(False)
        super().__init__(
            canvas,
            chameleon_codes(model.config, canvas),
            weights_hash(plain_config(model.config), model),
            str(model.name_or_path),
        )
        self.makes_pictures = model.decoder is not None

    def save(self, folder: Path) -> None:
        """Write a folder that transformers' ``ChameleonVQVAE`` loads."""
        self.model.save_pretrained(folder)

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        tokens_M = self.model.encode(pixels_NCHW.to(self.model.device)).image_tokens
        return tokens_M.reshape(len(pixels_NCHW), -1)

    def _decode(self, encoded: Tensor) -> Tensor:
        self.require_decoder()
        return self.model.decode_codes(encoded.to(self.model.device))
