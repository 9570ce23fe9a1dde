"""Image generation by diffusion on latents: noising, loss target, sampling steps.

Shapes: N images, C x H x W latents, P patches per image, D backbone width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from mot_lab.heads.patch_codec import UNET_GROUPS, make_codec
from mot_lab.limits import require_between

TRAIN_STEPS = 1000
MOST_WEIGHT = 1e6
MOST_CHANNELS = 65_536


@dataclass
class DiffusionConfig:
    """The diffusion head, the same for every arm of a study.

    Attributes:
        codec: ``linear`` or ``unet`` between latents and tokens.
        unet_channels: width of the U-Net codec (no source gives it).
        objective: ``epsilon`` (DDPM noise prediction, cosine schedule, 1,000 steps: Transfusion)
            or ``flow`` (rectified flow's velocity).
        loss_weight: of the diffusion loss beside the language-model loss (5: Transfusion, Eq. 4).
        sampler: of generation; ``ddim`` or ``ddpm`` for epsilon; flow has its own Euler steps.
        sample_steps: denoising steps of generation (250 in the paper).
    """

    codec: Literal["linear", "unet"] = "linear"
    unet_channels: int = 64
    objective: Literal["epsilon", "flow"] = "epsilon"
    loss_weight: float = 5.0
    sampler: Literal["ddim", "ddpm"] = "ddim"
    sample_steps: int = 250

    def __post_init__(self) -> None:
        require_between(self, 1, TRAIN_STEPS, "sample_steps")
        require_between(self, 0, MOST_WEIGHT, "loss_weight")
        require_between(self, UNET_GROUPS, MOST_CHANNELS, "unet_channels")
        if self.unet_channels % UNET_GROUPS:
            raise ValueError(
                f"unet_channels {self.unet_channels} must be a multiple of {UNET_GROUPS}"
            )
        if self.sampler == "ddpm" and self.objective == "flow":
            raise ValueError("sampler ddpm is of objective epsilon; flow has its own steps")


class DiffusionHead(nn.Module):
    """Patch codec and noise schedule around the backbone.

    Args:
        config: of the head.
        latent_shape: (C, H, W) of the image tokenizer's latents.
        patch: side of an image token, in latent positions.
        width: D.
    """

    def __init__(
        self,
        config: DiffusionConfig,
        latent_shape: tuple[int, int, int],
        patch: int,
        width: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.latent_shape = latent_shape
        self.codec = make_codec(config.codec, latent_shape, patch, width, config.unet_channels)
        schedule: Any = DDPMScheduler(TRAIN_STEPS, beta_schedule="squaredcos_cap_v2")
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", schedule.alphas_cumprod, persistent=False)

    def add_noise(self, latents_NCHW: Tensor, noise_NCHW: Tensor, time_N: Tensor) -> Tensor:
        """The noised latents at time t: ``sqrt(a) x + sqrt(1 - a) eps`` (epsilon) or
        ``(1 - t) x + t eps`` (flow). Noise is added before patchification.
        """
        if self.config.objective == "flow":
            t = time_N.to(latents_NCHW.dtype)[:, None, None, None]
            return (1 - t) * latents_NCHW + t * noise_NCHW
        step_N = (time_N * TRAIN_STEPS).round().long()
        alpha = self.alphas_cumprod[step_N].to(latents_NCHW.dtype)[:, None, None, None]
        return alpha.sqrt() * latents_NCHW + (1 - alpha).sqrt() * noise_NCHW

    def target(self, latents_NCHW: Tensor, noise_NCHW: Tensor) -> Tensor:
        """What the model predicts: the noise, or the velocity ``eps - x``."""
        return noise_NCHW - latents_NCHW if self.config.objective == "flow" else noise_NCHW

    def image_losses(
        self, prediction_NCHW: Tensor, latents_NCHW: Tensor, noise_NCHW: Tensor
    ) -> Tensor:
        """Mean squared error of each image [N], over all its latent values (L_DDPM)."""
        error = (prediction_NCHW - self.target(latents_NCHW, noise_NCHW)).float()
        return error.square().flatten(1).mean(dim=1)

    @torch.no_grad()
    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise_NCHW: Tensor,
        generators: Sequence[torch.Generator],
        steps: int | None = None,
        sampler: str | None = None,
    ) -> Tensor:
        """Denoise pure noise into latents [N, C, H, W], in the noise's precision.

        Args:
            predict: (noised latents [N, C, H, W], times [N] in (0, 1]) -> prediction.
            noise_NCHW: what the pictures start from, on the model's device.
            generators: one for each picture, on the CPU, of the noise that ``ddpm`` adds while
                denoising: a picture does not depend on those beside it.
            steps: denoising steps, by default the configuration's.
            sampler: ``ddim`` or ``ddpm`` of epsilon, ``flow`` of flow; by default the
                configuration's.

        Raises:
            ValueError: too few or many steps, or a sampler of the other objective.
        """
        scheduler = self._scheduler(sampler)
        steps = self.config.sample_steps if steps is None else steps
        if not 1 <= steps <= TRAIN_STEPS:
            raise ValueError(f"steps {steps} must be 1 to {TRAIN_STEPS}")
        scheduler.set_timesteps(steps)
        x_NCHW = noise_NCHW
        for timestep in scheduler.timesteps:
            time = float(timestep) / TRAIN_STEPS
            time_N = torch.full((len(x_NCHW),), time, device=x_NCHW.device)
            prediction_NCHW = predict(x_NCHW, time_N).to(x_NCHW.dtype)
            x_NCHW = scheduler.step(
                prediction_NCHW, timestep, x_NCHW, generator=list(generators)
            ).prev_sample
        return x_NCHW

    def _scheduler(self, sampler: str | None) -> Any:
        """A scheduler of diffusers (their classes are built at run time and have no types)."""
        config = self.config
        fitting = ("flow",) if config.objective == "flow" else ("ddim", "ddpm")
        if sampler is None:
            sampler = "flow" if config.objective == "flow" else config.sampler
        if sampler not in fitting:
            raise ValueError(
                f"sampler {sampler!r} does not fit a model of objective {config.objective!r}: "
                f"give {' or '.join(fitting)}"
            )
        if sampler == "flow":
            return FlowMatchEulerDiscreteScheduler(TRAIN_STEPS)
        make = DDIMScheduler if sampler == "ddim" else DDPMScheduler
        return make(
            TRAIN_STEPS,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="epsilon",
            clip_sample=True,
            clip_sample_range=SAMPLE_RANGE,
            # Start at the very last step, where nothing of the picture is left, as sampling does.
            timestep_spacing="trailing",
        )


# The cosine schedule ends at alpha ~ 0, where x_0 = (x - sqrt(1 - a) eps) / sqrt(a) explodes;
# latents have unit variance, and none was seen beyond this many standard deviations.
SAMPLE_RANGE = 5.0
