"""Networks that are fitted on pictures: their common shape, and the loop that fits them.

Letters in tensor names: N pictures, C 3 colours, H/W pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from rich.progress import track
from torch import Tensor, nn

from mot_lab.limits import MOST_SEED, MOST_STEPS, require_between, require_positive
from mot_lab.tokens.pictures import Pictures, to_unit_range

NORM_GROUPS = 16
MOST_DOWNSAMPLE = 256
MOST_CHANNELS = 65_536
MOST_WEIGHT = 1e6
WIDTH_UNIT = 2 * NORM_GROUPS  # normalising channels one by one would erase plain colours

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class FittedConfig:
    """An encoder and a decoder of convolutions, and how they are fitted.

    Attributes:
        downsample: pixels of a side of one latent cell, a power of two.
        latent_channels: numbers per latent cell.
        space_to_depth: pixels of a side that become channels before the first convolution, a power
            of two up to ``downsample``. Convolutions at few positions are what makes it fast.
        width: channels of the first convolution, a multiple of 32; they double at each halving.
        fit_steps: optimiser steps.
        batch_size: pictures of a step; every step sees new ones where the source has them.
        learning_rate: peak of AdamW's rate, reached after 5% of the steps, then cosine to zero.
        seed: of the initial weights and of whatever is drawn while fitting.
    """

    downsample: int = 8
    latent_channels: int = 16
    space_to_depth: int = 8
    width: int = 64
    fit_steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_DOWNSAMPLE, "downsample", "space_to_depth")
        for name in ("downsample", "space_to_depth"):
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(
                    f"{name} {getattr(self, name)} must be 1, 2, 4 or a higher power of two"
                )
        if self.space_to_depth > self.downsample:
            raise ValueError(
                f"space_to_depth {self.space_to_depth} must be at most downsample {self.downsample}"
            )
        require_between(self, 1, MOST_CHANNELS, "width", "latent_channels", "batch_size")
        if self.width % WIDTH_UNIT:
            raise ValueError(f"width {self.width} must be a multiple of {WIDTH_UNIT}")
        require_between(self, 1, MOST_STEPS, "fit_steps")
        require_positive(self, 1, "learning_rate")
        require_between(self, 0, MOST_SEED, "seed")

    def network(self, canvas: int) -> dict[str, Any]:
        """What diffusers' ``AutoencoderKL`` and ``VQModel`` are built from, under its names."""
        levels = (self.downsample // self.space_to_depth).bit_length()
        channels = 3 * self.space_to_depth**2
        return {
            "in_channels": channels,
            "out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": tuple(self.width * 2**level for level in range(levels)),
            "layers_per_block": 1,
            "latent_channels": self.latent_channels,
            "norm_num_groups": NORM_GROUPS,
            "sample_size": canvas // self.space_to_depth,
            "mid_block_add_attention": False,
        }


def pixels_per_side(model_config: Mapping[str, Any]) -> int:
    """p of a network that reads p x p pixels as 3 * p * p channels; 1 for the usual kind."""
    side = math.isqrt(model_config["in_channels"] // 3)
    if 3 * side**2 != model_config["in_channels"]:
        raise ValueError(
            f"an autoencoder of {model_config['in_channels']} channels reads no RGB pictures"
        )
    return side


def downsampling(model_config: Mapping[str, Any]) -> int:
    """Pixels of a side of one latent cell."""
    return pixels_per_side(model_config) * 2 ** (len(model_config["block_out_channels"]) - 1)


def seeded(config: FittedConfig, build: Callable[[], Network]) -> Network:
    """A network with initial weights drawn from the config's seed, and from nothing else."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return build()


def fit_network(
    model: Network,
    loss: Callable[[Tensor], Tensor],
    config: FittedConfig,
    pictures: Pictures,
    device: torch.device | str,
    what: str,
) -> Network:
    """Fit a network in fp32, with a progress bar.

    Args:
        model: on the device, which its gradients come from.
        loss: of pictures [N, 3, H, W] in [-1, 1].
        config: of the fitting.
        pictures: to fit on.
        device: where the pictures are needed.
        what: the progress bar says that it is fitting.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        (weight for weight in model.parameters() if weight.requires_grad),
        lr=config.learning_rate,
        fused=True,
    )
    # A warm-up of exactly one step makes OneCycleLR divide by zero.
    warm_up = 0.1 if config.fit_steps == 20 else 0.05
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.learning_rate,
        total_steps=config.fit_steps,
        pct_start=warm_up,
        cycle_momentum=False,
    )
    for step in track(range(config.fit_steps), description=f"fitting {what}"):
        images_NHWC = pictures(step * config.batch_size, config.batch_size)
        pixels_NCHW = to_unit_range(torch.from_numpy(images_NHWC).to(device))
        optimizer.zero_grad()
        loss(pixels_NCHW).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()
