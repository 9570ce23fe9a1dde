"""The training objective: next-token prediction over all discrete modalities plus denoising,
``L = L_LM + weight * L_DDPM`` (MoT, section 3.4; Transfusion, Eq. 4); Chameleon has the first term.

Shapes: L targets, V joint vocabulary, N images, C x H x W latents, M modalities.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mot_lab.batch import MultimodalBatch
from mot_lab.model import MultimodalModel, Output


@dataclass(frozen=True)
class Losses:
    """Sums and counts of a batch, by modality.

    Attributes:
        sums: of a discrete modality the nats over its predicted tokens (0-dim), of the denoised
            one the sum over images of each image's mean squared error.
        counts: predicted tokens, or images.
        z: mean squared log-partition of the logits, weighted; never part of a reported loss.
        total: what is minimised.
    """

    sums: Mapping[str, Tensor]
    counts: Mapping[str, int]
    z: Tensor
    total: Tensor

    def mean(self, modality: str) -> Tensor:
        """Nats per predicted token, or mean squared error per image; NaN where the batch has
        none.
        """
        total, count = self.sums[modality], self.counts[modality]
        return total / count if count else torch.full_like(total, float("nan"))


def token_losses(logits_LV: Tensor, target_L: Tensor) -> Tensor:
    """Nats [L] of each target under the softmax over the joint vocabulary, in fp32."""
    return F.cross_entropy(logits_LV.float(), target_L, reduction="none")


def multimodal_losses(
    net: MultimodalModel, output: Output, batch: MultimodalBatch, z_loss: float
) -> Losses:
    """The objective of one batch. Every predicted token weighs the same, whatever its modality.

    Args:
        net: names the modalities and, where one is denoised, has its target and its weight.
        output: of the network on this batch.
        batch: targets, latents and noise.
        z_loss: weight of ``log^2 Z`` (1e-5 in Chameleon, 0 = none).
    """
    nats_L = token_losses(output.logits_LV, batch.target_L)
    names = net.transformer.wiring.modalities
    sum_M = nats_L.new_zeros(len(names)).index_add(0, batch.target_modality_L, nats_L)
    sums = dict(zip(names, sum_M.unbind(), strict=True))
    counts = dict(batch.target_counts)
    targets = max(sum(counts.values()), 1)
    z = nats_L.new_zeros(())
    if z_loss:
        z = z_loss * output.logits_LV.float().logsumexp(dim=-1).square().sum() / targets
    total = nats_L.sum() / targets + z
    if net.diffusion is not None and net.diffused is not None:
        assert output.prediction_NCHW is not None
        errors_N = net.diffusion.image_losses(
            output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
        )
        sums[net.diffused], counts[net.diffused] = errors_N.sum(), batch.num_images
        error = sums[net.diffused] / max(batch.num_images, 1)
        total = total + net.diffusion.config.loss_weight * error
    return Losses(sums, counts, z, total)
