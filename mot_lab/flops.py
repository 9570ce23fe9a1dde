"""Parameters and FLOPs from structure alone; works on the meta device, 7B included.

FLOPs are those of matrix products (a multiply and an add are two). A training step is three
forward passes' worth: one forward, two backward, of which weights that are frozen take no part in
the second. Norms, activations, gathers and the softmax are
left out, as in every published count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mot_lab.backbones.attending import attention_mask
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.towers import Towers
from mot_lab.batch import MultimodalBatch
from mot_lab.model import MultimodalModel

TRAINING_PASSES = 3


@dataclass(frozen=True)
class Workload:
    """What one step computes, as far as FLOPs depend on it (means over batches may be fractions).

    Attributes:
        tokens: real tokens per modality.
        pairs: query-key pairs that the mask lets through, by modality of the query.
        full_pairs: pairs if every query attended to its whole row.
        predictions: tokens predicted, by their modality.
        images: images denoised.
    """

    tokens: Mapping[str, float]
    pairs: Mapping[str, float]
    full_pairs: Mapping[str, float]
    predictions: Mapping[str, float]
    images: float

    @classmethod
    def of_batches(cls, batches: list[MultimodalBatch], modalities: tuple[str, ...]) -> "Workload":
        """The mean of some batches, attention pairs counted from their masks."""
        number = len(batches)
        tokens = dict.fromkeys(modalities, 0.0)
        pairs = dict.fromkeys(modalities, 0.0)
        full_pairs = dict.fromkeys(modalities, 0.0)
        for batch in batches:
            mask_BSS = attention_mask(batch.document_BS, batch.image_BS)[:, 0]
            seen_BS = mask_BSS.sum(dim=-1)
            for i, name in enumerate(modalities):
                here_BS = batch.modality_BS == i
                tokens[name] += int(here_BS.sum()) / number
                pairs[name] += int(seen_BS[here_BS].sum()) / number
                full_pairs[name] += int(here_BS.sum()) * batch.token_BS.shape[1] / number
        return cls(
            tokens,
            pairs,
            full_pairs,
            {
                name: sum(batch.target_counts[name] for batch in batches) / number
                for name in modalities
            },
            sum(batch.num_images for batch in batches) / number,
        )


def forward_flops(
    model: MultimodalModel, workload: Workload, full_attention: bool = False
) -> dict[str, float]:
    """FLOPs of one forward pass, per modality of the token that causes them.

    Args:
        model: on any device, meta included.
        workload: of one step.
        full_attention: count attention as if nothing were masked (the convention of
            ``FlopCounterMode`` and of 6 N + 12 L D S formulas).
    """
    pairs = workload.full_pairs if full_attention else workload.pairs
    flops: dict[str, float] = {
        name: sum(
            block.forward_flops(name, workload.tokens[name], pairs[name])
            for block in model.transformer.layers
        )
        for name in model.transformer.wiring.modalities
    }
    for name, predictions in workload.predictions.items():
        flops[name] += model.autoregressive.forward_flops(predictions)
    if model.diffusion is not None and model.diffused is not None:
        flops[model.diffused] += model.diffusion.codec.forward_flops(workload.images)
    return flops


def training_flops(
    model: MultimodalModel, workload: Workload, full_attention: bool = False
) -> dict[str, float]:
    """FLOPs of one training step, per modality; gradients of frozen weights are not computed."""
    forward = forward_flops(model, workload, full_attention)
    spared = _frozen_flops(model, workload)
    return {name: TRAINING_PASSES * flops - spared[name] for name, flops in forward.items()}


def _frozen_flops(model: MultimodalModel, workload: Workload) -> dict[str, float]:
    """What the gradients of frozen weights would take: as much as their products in the forward
    pass. The gradients of what went into them are still needed by the layers below.
    """
    spared = dict.fromkeys(model.transformer.wiring.modalities, 0.0)
    for name, tokens in workload.tokens.items():
        for block in model.transformer.layers:
            for towers in (block.attention.qkv, block.attention.out, block.feed_forward):
                own = towers.of(name)
                if any(weight.requires_grad for weight in own.parameters()):
                    continue
                if isinstance(own, FeedForward | ExpertChoice):
                    spared[name] += own.forward_flops(tokens)
                else:
                    spared[name] += 2 * tokens * count_matrices(own)
    if not model.autoregressive.output.weight.requires_grad:
        for name, predictions in workload.predictions.items():
            spared[name] += model.autoregressive.forward_flops(predictions)
    return spared


def router_flops(model: MultimodalModel, workload: Workload) -> float:
    """FLOPs of the experts' routers in one training step, which `training_flops` includes."""
    forward = 0.0
    for block in model.transformer.layers:
        for name in model.transformer.wiring.modalities:
            own = block.feed_forward.of(name)
            if isinstance(own, ExpertChoice):
                forward += 2 * workload.tokens[name] * own.router.weight.numel()
    return TRAINING_PASSES * forward


def count_matrices(module: nn.Module) -> int:
    """Numbers in matrices, biases and norms left out."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)


def count_parameters(model: nn.Module) -> int:
    """All parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_active_parameters(model: MultimodalModel) -> int:
    """Parameters that a token passes through: all but other towers' and other experts'.

    Embedding, output and patch codec count in full. Where modalities differ (the hybrid's text
    tower has a router), the modality with the most is meant.
    """
    idle = {
        name: sum(_idle(module, name) for module in model.modules() if isinstance(module, Towers))
        for name in model.transformer.wiring.modalities
    }
    return count_parameters(model) - min(idle.values())


def _idle(towers: Towers, modality: str) -> int:
    own = towers.of(modality)
    idle = count_parameters(towers) - count_parameters(own)
    if isinstance(own, ExpertChoice):
        experts = own.router.out_features
        weights = own.gate_up_EDF.numel() + own.down_EFD.numel()
        idle += weights - weights // experts
    return idle
