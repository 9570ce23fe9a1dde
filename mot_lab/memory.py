"""Memory of training an arm on one device, part by part, from structure alone.

Weights, gradients and AdamW's two moments in fp32 are 16 bytes a parameter (as in ZeRO, arXiv
1910.02054, section 3.1, there with 16-bit weights and gradients), the averaged weights 4 more.
Sharded over N devices (ZeRO stage 3, FSDP) each holds an N-th of these; blocks are gathered as they
are needed.
Activations are `mot_lab.activations`'.
"""

from dataclasses import asdict, dataclass

from torch import nn

from mot_lab.activations import FP32, Pass, block_bytes, ends_bytes, logits_bytes
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.counting import nominal_workload, structure
from mot_lab.data.interface import DataInterface
from mot_lab.data.prepare import DataConfig
from mot_lab.flops import count_parameters
from mot_lab.model import MultimodalModel
from mot_lab.study_arm import StudyArm

MOMENTS = 2
GATHERED_BLOCKS = 2  # the one at work and the next


@dataclass(frozen=True)
class MemoryParts:
    """Bytes on one device.

    Attributes:
        weights: and buffers.
        gradients, optimizer, average: of weights that are trained.
        weight_copies: the weights in bf16 that autocast makes, whole on every device.
        gathered: whole blocks and heads, where the weights are sharded.
        activations: kept for the backward pass; with recomputation every block's input, and one
            block whole.
        logits: what the losses keep of predictions.
        logit_gradients: what is held of them besides at the worst moment
            (`mot_lab.activations.logits_bytes`).
    """

    weights: float
    gradients: float
    optimizer: float
    average: float
    weight_copies: float
    gathered: float
    activations: float
    logits: float
    logit_gradients: float

    @property
    def total(self) -> float:
        """All parts together: at no time there is more, short-lived buffers of one operation
        aside. Gradients are made while activations go, so that the most is somewhat less.
        """
        return sum(asdict(self).values())


def arm_memory(
    arm: StudyArm,
    data: DataInterface,
    at: Pass,
    shards: int = 1,
    recompute: bool | None = None,
) -> MemoryParts:
    """Memory of one arm on one device.

    Args:
        arm: of a study.
        data: what model and data agree on.
        at: what one device computes in a step.
        shards: devices that weights, gradients, moments and averages are sharded over.
        recompute: activation checkpointing; by default as the arm is trained.

    Raises:
        ValueError: less than one shard.
    """
    if shards < 1:
        raise ValueError(f"shards {shards} must be at least 1")
    model = structure(arm, data)
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    held = count_parameters(model) + sum(each.numel() for each in model.buffers())
    blocks = [block_bytes(block, model.transformer, at) for block in model.transformer.layers]
    if arm.training.recompute if recompute is None else recompute:
        stream = sum(at.tokens.values()) * model.transformer.config.width * FP32
        kept = len(blocks) * stream + max(blocks)
    else:
        kept = sum(blocks)
    logits, logit_gradients = logits_bytes(model, at, arm.model.z_loss > 0)
    return MemoryParts(
        weights=FP32 * held / shards,
        gradients=FP32 * trained / shards,
        optimizer=MOMENTS * FP32 * trained / shards,
        average=FP32 * trained / shards,
        weight_copies=_multiplied(model) * at.width if at.mixed else 0,
        gathered=FP32 * _gathered(model) if shards > 1 else 0,
        activations=kept + ends_bytes(model, at),
        logits=logits,
        logit_gradients=logit_gradients,
    )


def nominal_pass(data: DataConfig, arm: StudyArm, rows: float) -> Pass:
    """What one GPU computes in a step of `nominal_workload`.

    Args:
        data: of the study.
        arm: for its precision (``auto`` is bf16 on a GPU) and its kernel of attention.
        rows: of ``data.rows``, those on this device.
    """
    workload, share = nominal_workload(data), rows / data.rows
    return Pass(
        {name: share * count for name, count in workload.tokens.items()},
        rows,
        data.row_length,
        share * sum(workload.predictions.values()),
        share * workload.images,
        mixed=arm.training.precision != "32-true",
        kernel=arm.training.attention,
    )


def _multiplied(model: MultimodalModel) -> int:
    """Numbers in weights of matrix products and convolutions, routers (in fp32) left out."""
    weights = [each for each in model.parameters() if each.dim() > 1]
    routers = [each.router for each in model.modules() if isinstance(each, ExpertChoice)]
    apart = [each for each in model.modules() if isinstance(each, nn.Embedding)] + routers
    return sum(each.numel() for each in weights) - sum(each.weight.numel() for each in apart)


def _gathered(model: MultimodalModel) -> int:
    """Parameters that are whole at once: heads, and some blocks."""
    blocks = sorted((count_parameters(block) for block in model.transformer.layers), reverse=True)
    heads = count_parameters(model) - sum(blocks)
    return heads + sum(blocks[:GATHERED_BLOCKS])
