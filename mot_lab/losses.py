"""The training objective: next-token prediction over all discrete modalities plus denoising,
``L = L_LM + weight * L_DDPM`` (MoT, section 3.4; Transfusion, Eq. 4); Chameleon has the first term.

Shapes: L targets, V joint vocabulary, N images, C x H x W latents, M modalities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mot_lab.batch import MultimodalBatch
from mot_lab.distributed.ranks import summed_tensor, summing
from mot_lab.model import MultimodalModel, Output


@dataclass(frozen=True)
class Losses:
    """Sums and counts of a batch, by modality.

    A batch may be a part of its optimiser step: the rows of one process, or those of one pass where
    gradients are accumulated. ``total`` is then its share: the shares add up to the step's loss.

    Attributes:
        sums: of a discrete modality the nats over its predicted tokens (0-dim), of the denoised
            one the sum over images of each image's mean squared error.
        counts: predicted tokens, or images.
        z: mean squared log-partition of the logits, weighted; never part of a reported loss.
        total: what is minimised, this batch's share of it.
        step_counts: predicted tokens, or images, of the whole step.
    """

    sums: Mapping[str, Tensor]
    counts: Mapping[str, int]
    z: Tensor
    total: Tensor
    step_counts: Mapping[str, int]

    def mean(self, modality: str) -> Tensor:
        """Nats per predicted token, or mean squared error per image; NaN where the batch has
        none.
        """
        total, count = self.sums[modality], self.counts[modality]
        return total / count if count else torch.full_like(total, float("nan"))

    def detached(self) -> "Losses":
        """The values alone, which keep nothing for a backward pass."""
        sums = {name: each.detach() for name, each in self.sums.items()}
        return replace(self, sums=sums, z=self.z.detach(), total=self.total.detach())


def token_losses(logits_LV: Tensor, target_L: Tensor) -> Tensor:
    """Nats [L] of each target under the softmax over the joint vocabulary, in fp32."""
    return F.cross_entropy(logits_LV.float(), target_L, reduction="none")


def loss_counts(net: MultimodalModel, batch: MultimodalBatch) -> dict[str, int]:
    """Predicted tokens and, of the denoised modality, images of all passes of the batch's step on
    this process.
    """
    counts = dict(batch.target_counts if batch.step_targets is None else batch.step_targets)
    if net.diffused is not None:
        images = batch.num_images if batch.step_images is None else batch.step_images
        counts[net.diffused] = images
    return counts


def multimodal_losses(
    net: MultimodalModel,
    output: Output,
    batch: MultimodalBatch,
    z_loss: float,
    of_step: Mapping[str, int] | None = None,
) -> Losses:
    """The objective of one batch. Every predicted token weighs the same, whatever its modality.

    Args:
        net: names the modalities and, where one is denoised, has its target and its weight.
        output: of the network on this batch; the z-loss wants logits.
        batch: targets, latents and noise.
        z_loss: weight of ``log^2 Z`` (1e-5 in Chameleon, 0 = none).
        of_step: `loss_counts` of the whole step, summed over processes; left out, the batch is all
            of it.
    """
    names = net.transformer.wiring.modalities
    nats_M = output.nats_M
    if nats_M is None:
        assert output.logits_LV is not None
        nats_L = token_losses(output.logits_LV, batch.target_L)
        nats_M = nats_L.new_zeros(len(names)).index_add(0, batch.target_modality_L, nats_L)
    sums = dict(zip(names, nats_M.unbind(), strict=True))
    counts = dict(batch.target_counts)
    all_counts = counts if of_step is None else of_step
    targets = max(sum(n for name, n in all_counts.items() if name != net.diffused), 1)
    z = nats_M.new_zeros(())
    if z_loss:
        if output.logits_LV is None:
            raise ValueError(f"z_loss {z_loss} is of logits, and the network gave none")
        z = z_loss * output.logits_LV.float().logsumexp(dim=-1).square().sum() / targets
    total = nats_M.sum() / targets + z
    if net.diffusion is not None and net.diffused is not None:
        assert output.prediction_NCHW is not None
        errors_N = net.diffusion.image_losses(
            output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
        )
        sums[net.diffused], counts[net.diffused] = errors_N.sum(), batch.num_images
        images = batch.num_images if of_step is None else of_step[net.diffused]
        error = sums[net.diffused] / max(images, 1)
        total = total + net.diffusion.config.loss_weight * error
    return Losses(sums, counts, z, total, counts if of_step is None else of_step)


def summed_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by modality, each summed over the processes."""
    return summing_counts(counts)()


def summing_counts(counts: Mapping[str, int]) -> Callable[[], dict[str, int]]:
    """Begin `summed_counts`; what is returned waits for it."""
    sums = summing(list(counts.values()))
    return lambda: dict(zip(counts, sums(), strict=True))


def summed_by_modality(losses: Sequence[Losses]) -> tuple[dict[str, Tensor], Tensor]:
    """The losses' sums by modality, and their totals' sum (0-dim each), over all of them and over
    the processes.
    """
    names = list(losses[0].sums)
    each_M1 = [torch.stack([*(one.sums[name] for name in names), one.total]) for one in losses]
    *sums, total = summed_tensor(sum_of(each_M1)).unbind()
    return dict(zip(names, sums, strict=True)), total


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape, in their order."""
    total = tensors[0]
    for each in tensors[1:]:
        total = total + each
    return total
