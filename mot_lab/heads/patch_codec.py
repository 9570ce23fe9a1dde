"""From noised latents to backbone tokens and back: linear or U-Net (Transfusion, section 3.1).

Shapes: N images, C x H x W latents, p patch side, P = (H / p)(W / p) patches, D backbone width.
"""

import math
from typing import Literal

import torch
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

TIME_FREQUENCIES = 128
UNET_GROUPS = 8


def patchify(x_NCHW: Tensor, patch: int) -> Tensor:
    """[N, C, H, W] -> [N, P, C * p * p], patches in reading order."""
    images, channels, height, width = x_NCHW.shape
    x = x_NCHW.reshape(images, channels, height // patch, patch, width // patch, patch)
    patches = (height // patch) * (width // patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(images, patches, channels * patch * patch)


def unpatchify(x_NPQ: Tensor, shape: tuple[int, int, int], patch: int) -> Tensor:
    """The inverse of `patchify`, for latents of shape (C, H, W)."""
    channels, height, width = shape
    images, down, across = len(x_NPQ), height // patch, width // patch
    x = x_NPQ.reshape(images, down, across, channels, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(images, channels, height, width)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the noise level, then an MLP; time 1 counts as 1,000 steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sinusoid = Timesteps(TIME_FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.up = nn.Linear(TIME_FREQUENCIES, width)
        self.out = nn.Linear(width, width)

    def forward(self, time_N: Tensor) -> Tensor:
        """[N] -> [N, width]."""
        waves_NF = self.sinusoid(1000 * time_N).to(self.up.weight.dtype)
        return self.out(F.silu(self.up(waves_NF)))

    def forward_flops(self, images: float) -> float:
        """The two matrix products of the MLP, once per image."""
        return 2 * images * (self.up.weight.numel() + self.out.weight.numel())


class LinearCodec(nn.Module):
    """A linear layer in, a linear layer out; the time embedding is added to every patch vector
    before the linear layer (Transfusion, footnote 6).
    """

    def __init__(self, latent_shape: tuple[int, int, int], patch: int, width: int) -> None:
        super().__init__()
        self.latent_shape, self.patch = latent_shape, patch
        self.tokens = latent_shape[1] * latent_shape[2] // patch**2
        patch_width = latent_shape[0] * patch * patch
        self.time = TimeEmbedding(patch_width)
        self.encoder = nn.Linear(patch_width, width)
        self.decoder = nn.Linear(width, patch_width)

    def encode(self, x_NCHW: Tensor, time_N: Tensor) -> tuple[Tensor, None]:
        """Noised latents -> tokens [N, P, D]; nothing is kept for `decode`."""
        patches_NPQ = patchify(x_NCHW, self.patch)
        return self.encoder(patches_NPQ + self.time(time_N)[:, None]), None

    def decode(self, hidden_NPD: Tensor, time_N: Tensor, kept: Tensor | None) -> Tensor:
        """Backbone outputs [N, P, D] -> prediction [N, C, H, W]."""
        return unpatchify(self.decoder(hidden_NPD), self.latent_shape, self.patch)

    def forward_flops(self, images: float) -> float:
        """Two products with the patch width per token, and the time embedding."""
        weights = self.encoder.weight.numel() + self.decoder.weight.numel()
        return 2 * images * self.tokens * weights + self.time.forward_flops(images)


class UNetCodec(nn.Module):
    """The down half of a U-Net into the tokens, its up half out of them, joined by a skip.

    Built of diffusers' ResNet blocks, plain group norms, the time embedding added inside them
    (the paper gives no widths: NOT FOUND in MoT or Transfusion, so ``channels`` is a switch).
    """

    def __init__(
        self, latent_shape: tuple[int, int, int], patch: int, width: int, channels: int
    ) -> None:
        super().__init__()
        self.latent_shape, self.patch = latent_shape, patch
        _, height, breadth = latent_shape
        self.grid = (height // patch, breadth // patch)
        self.tokens = self.grid[0] * self.grid[1]
        halvings = int(math.log2(patch))
        self.time = TimeEmbedding(channels)
        self.conv_in = nn.Conv2d(latent_shape[0], channels, 3, padding=1)
        self.down_block = _resnet(channels, channels)
        self.down = nn.Sequential(*(Downsample2D(channels, use_conv=True) for _ in range(halvings)))
        self.encoder = nn.Linear(channels, width)
        self.decoder = nn.Linear(width, channels)
        self.up = nn.Sequential(*(Upsample2D(channels, use_conv=True) for _ in range(halvings)))
        self.up_block = _resnet(2 * channels, channels)
        self.conv_out = nn.Conv2d(channels, latent_shape[0], 3, padding=1)

    def encode(self, x_NCHW: Tensor, time_N: Tensor) -> tuple[Tensor, Tensor]:
        """Noised latents -> tokens [N, P, D] and the skip that `decode` takes."""
        skip = self.down_block(self.conv_in(x_NCHW), self.time(time_N))
        tokens = self.down(skip).flatten(2).transpose(1, 2)
        return self.encoder(tokens), skip

    def decode(self, hidden_NPD: Tensor, time_N: Tensor, kept: Tensor | None) -> Tensor:
        """Backbone outputs [N, P, D] and the skip -> prediction [N, C, H, W]."""
        assert kept is not None, "the U-Net decodes with the skip of its encoder"
        x = self.decoder(hidden_NPD).transpose(1, 2).unflatten(2, self.grid)
        x = torch.cat([self.up(x), kept], dim=1)
        return self.conv_out(self.up_block(x, self.time(time_N)))

    def forward_flops(self, images: float) -> float:
        """Every convolution at its output's resolution, the linears per token or per image."""
        _, height, breadth = self.latent_shape
        full = height * breadth
        blocks = (self.conv_in, self.down_block, self.up_block, self.conv_out)
        products = full * sum(_conv_weights(block) for block in blocks)
        for level in range(len(self.down)):
            products += full // 4 ** (level + 1) * _conv_weights(self.down[level])
            products += full // 4**level * _conv_weights(self.up[-1 - level])
        products += self.tokens * (self.encoder.weight.numel() + self.decoder.weight.numel())
        for block in (self.down_block, self.up_block):
            products += sum(
                each.weight.numel() for each in block.modules() if isinstance(each, nn.Linear)
            )
        return 2 * images * products + 2 * self.time.forward_flops(images)


def _conv_weights(block: nn.Module) -> int:
    return sum(each.weight.numel() for each in block.modules() if isinstance(each, nn.Conv2d))


def _resnet(channels_in: int, channels_out: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=channels_in,
        out_channels=channels_out,
        temb_channels=channels_out,
        groups=UNET_GROUPS,
    )


PatchCodec = LinearCodec | UNetCodec


def make_codec(
    kind: Literal["linear", "unet"],
    latent_shape: tuple[int, int, int],
    patch: int,
    width: int,
    channels: int,
) -> PatchCodec:
    """The patch codec of a configuration.

    Raises:
        ValueError: latents that do not divide into patches, or a U-Net whose patch side is no
            power of two or whose channels do not divide into the norm's groups.
    """
    if latent_shape[1] % patch or latent_shape[2] % patch:
        raise ValueError(f"latents {latent_shape} do not divide into patches of side {patch}")
    if kind == "linear":
        return LinearCodec(latent_shape, patch, width)
    if patch & (patch - 1):
        raise ValueError(f"the U-Net codec halves sides: patch {patch} must be a power of two")
    if channels % UNET_GROUPS:
        raise ValueError(f"unet_channels {channels} must be a multiple of {UNET_GROUPS}")
    return UNetCodec(latent_shape, patch, width, channels)
