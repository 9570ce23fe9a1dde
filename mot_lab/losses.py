"""The training objective: ``L = L_LM + weight * L_DDPM`` (MoT, section 3.4; Transfusion, Eq. 4).

Shapes: L text targets, V vocabulary, N images, C x H x W latents.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mot_lab.batch import MultimodalBatch
from mot_lab.heads.diffusion import DiffusionHead
from mot_lab.model import Output


@dataclass(frozen=True)
class Losses:
    """Sums and counts of a batch; the means are over the batch's own count of each modality.

    Attributes:
        text_sum: nats over all predicted tokens (0-dim); text_count: how many.
        image_sum: sum over images of each image's mean squared error (0-dim); image_count: images.
        z: mean squared log-partition of the logits, weighted; never part of a reported loss.
        total: what is minimised.
    """

    text_sum: Tensor
    text_count: int
    image_sum: Tensor
    image_count: int
    z: Tensor
    total: Tensor

    @property
    def text(self) -> Tensor:
        """Nats per predicted token; NaN where the batch predicts none."""
        return self.text_sum / self.text_count if self.text_count else _nothing(self.text_sum)

    @property
    def image(self) -> Tensor:
        """Mean squared error per image; NaN where the batch holds none."""
        return self.image_sum / self.image_count if self.image_count else _nothing(self.image_sum)


def _nothing(like: Tensor) -> Tensor:
    return torch.full_like(like, float("nan"))


def multimodal_losses(
    output: Output, batch: MultimodalBatch, head: DiffusionHead, z_loss: float
) -> Losses:
    """The objective of one batch.

    Args:
        output: of the network on this batch.
        batch: targets, latents and noise.
        head: gives the diffusion target and the weight of its loss.
        z_loss: weight of ``log^2 Z`` (1e-5 in Chameleon, 0 = none).
    """
    logits_LV = output.logits_LV.float()
    text_sum = F.cross_entropy(logits_LV, batch.target_L, reduction="sum")
    image_sum = head.image_losses(
        output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
    ).sum()
    text_count, image_count = batch.target_L.numel(), batch.num_images
    z = logits_LV.new_zeros(())
    if z_loss:
        z = z_loss * logits_LV.logsumexp(dim=-1).square().sum() / max(text_count, 1)
    total = (
        text_sum / max(text_count, 1)
        + head.config.loss_weight * image_sum / max(image_count, 1)
        + z
    )
    return Losses(text_sum, text_count, image_sum, image_count, z, total)
