"""The loss and the gradients of one global batch, of however many processes share it.

Weights and latents are fp64: what differs is then no rounding but a fault. (Losses are summed in
fp32, which leaves differences near 1e-7.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from factories import (
    CHAMELEON_SPEECH,
    INTERFACE,
    randomize,
    tiny_backbone,
    tiny_layout,
    tiny_stream,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from mot_lab.backbones.transformer import ExpertGroup
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.data.packing import Row, collate, pack_row
from mot_lab.distributed.ranks import rank, ranks, summed_tensor, whole
from mot_lab.distributed.sharding import shard
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.losses import loss_counts, multimodal_losses
from mot_lab.module import ModelConfig, MultimodalModule

ROWS = 8
Z_LOSS = 1e-3
ARMS = ("dense", "moe_4x", "mot", "mot_text_moe_4x")
SETTINGS: dict[str, tuple[DataInterface, DiffusionConfig]] = {
    "transfusion": (INTERFACE, DiffusionConfig()),
    "transfusion_unet": (INTERFACE, DiffusionConfig(codec="unet", unet_channels=8)),
    "chameleon_speech": (CHAMELEON_SPEECH, DiffusionConfig()),
}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        arm, setting: of the model.
        mixed: whether every row may hold everything; else the first half is text alone, and with it
            the whole of some processes.
        group: of expert choice.
        recompute: whether activations are computed again in the backward pass.
    """

    arm: str
    setting: str
    mixed: bool
    group: ExpertGroup = "global"
    recompute: bool = False


CASES = [
    *(Case(arm, of, mixed) for arm in ARMS for of in SETTINGS for mixed in (True, False)),
    *(Case(arm, "transfusion", mixed=False, recompute=True) for arm in ("mot", "moe_4x")),
]
SHARDED = [
    *(Case(arm, of, mixed=False) for arm in ARMS for of in ("transfusion", "chameleon_speech")),
    *(Case(arm, "transfusion_unet", mixed=False, recompute=True) for arm in ("mot", "moe_4x")),
]
OF_RANK = [Case(arm, of, False, "rank") for arm in ("moe_4x", ARMS[3]) for of in SETTINGS]


def module_of(case: Case) -> MultimodalModule:
    """With large random weights."""
    interface, diffusion = SETTINGS[case.setting]
    config = ModelConfig(backbone=tiny_backbone(), diffusion=diffusion, z_loss=Z_LOSS)
    module = MultimodalModule(config, interface, case.arm).double()
    randomize(module)
    module.net.transformer.expert_group = case.group
    module.net.transformer.recompute = case.recompute
    module.net.distributed = True
    return module


def rows_of(case: Case) -> list[Row]:
    """All rows of the global batch."""
    interface, _ = SETTINGS[case.setting]
    text = tiny_stream(prose_share=1.0)  # and without speech
    mixture = tiny_stream(interface=interface)
    layout = tiny_layout(40, interface)
    streams = [mixture if case.mixed or row >= ROWS // 2 else text for row in range(ROWS)]
    return [pack_row(stream, layout, (1, row)) for row, stream in enumerate(streams)]


def batch_of(case: Case, rows: Sequence[Row]) -> MultimodalBatch:
    """Some of the rows as a batch, its latents in fp64."""
    interface, _ = SETTINGS[case.setting]
    batch = collate(list(rows), 0, tiny_layout(40, interface))
    return replace(
        batch, latents_NCHW=batch.latents_NCHW.double(), noise_NCHW=batch.noise_NCHW.double()
    )


class Step(nn.Module):
    """Loss of a process's rows, so that the mean of the gradients over processes is the step's."""

    def __init__(self, module: MultimodalModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: MultimodalBatch) -> Tensor:
        return self.module.losses(batch).total


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """By name; every weight must have one."""
    found = {}
    for name, weight in module.named_parameters():
        assert weight.grad is not None, f"{name} has no gradient"
        found[name] = weight.grad.clone()
    return found


def alone(case: Case, groups: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    """One process with all rows: the loss, and the gradients.

    Args:
        case: of the comparison.
        groups: blocks of rows among each of which experts choose, one forward pass for each.
    """
    module, rows = module_of(case), rows_of(case)
    counts = loss_counts(module.net, batch_of(case, rows))
    size = ROWS // groups
    total = torch.zeros(())
    for start in range(0, ROWS, size):
        batch = batch_of(case, rows[start : start + size])
        share = multimodal_losses(module.net, module.net(batch), batch, Z_LOSS, counts).total
        share.backward()
        total = total + share.detach()
    return total, gradients(module)


def together(cases: Sequence[Case]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """On each of several processes: the step's loss and the gradients of every case.

    Each is computed twice: that a weight without gradient was waited for shows in the second.
    """
    return [result for case in cases for result in _twice(case)]


def _twice(case: Case) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    step = Step(module_of(case))
    shared = DistributedDataParallel(step, forward_sync_buffers=False, gradient_as_bucket_view=True)
    own = ROWS // ranks()
    batch = batch_of(case, rows_of(case)[rank() * own : (rank() + 1) * own])
    for time in range(2):
        step.zero_grad()
        share = shared(batch)
        (share * ranks()).backward()
        if time:
            yield summed_tensor(share.detach()), gradients(step.module)


def sharded(cases: Sequence[Case]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """`together`, of weights that are sharded over the processes (FSDP2)."""
    return [_of_shards(case) for case in cases]


def _of_shards(case: Case) -> tuple[Tensor, dict[str, Tensor]]:
    step = Step(module_of(case))
    shard(step.module.net, init_device_mesh("cpu", (ranks(),)))
    own = ROWS // ranks()
    share = step(batch_of(case, rows_of(case)[rank() * own : (rank() + 1) * own]))
    (share * ranks()).backward()
    found = {name: whole(each) for name, each in gradients(step.module).items()}
    return summed_tensor(share.detach()), found


def everything(
    cases: Sequence[Case], of_shards: Sequence[Case]
) -> tuple[list[tuple[Tensor, dict[str, Tensor]]], list[tuple[Tensor, dict[str, Tensor]]]]:
    """Both."""
    return together(cases), sharded(of_shards)
