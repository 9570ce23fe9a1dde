"""What every arm of a study costs, from structure alone: nothing is allocated."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from rich.table import Table

from mot_lab.data.interface import DataInterface
from mot_lab.data.prepare import DataConfig
from mot_lab.flops import (
    Workload,
    count_active_parameters,
    count_parameters,
    router_flops,
    training_flops,
)
from mot_lab.freezing import freeze
from mot_lab.model import MultimodalModel
from mot_lab.parameter_parts import ParameterParts, parameter_parts
from mot_lab.study_arm import StudyArm


@dataclass(frozen=True)
class ArmCost:
    """Parameters, and FLOPs of one training step.

    Attributes:
        description: of the arm.
        parameters, active_parameters: all, and those a token passes through.
        flops_per_step: attention counted as masked.
        flops_per_step_full_attention: as if every query saw its whole row.
        flops_per_modality: masked, by modality of the token that causes them.
    """

    description: str
    parameters: int
    active_parameters: int
    flops_per_step: float
    flops_per_step_full_attention: float
    flops_per_modality: Mapping[str, float]


def arm_cost(arm: StudyArm, data: DataInterface, workload: Workload) -> ArmCost:
    """The cost of one arm for a workload."""
    return arm_cost_and_parts(arm, data, workload)[0]


def arm_cost_and_parts(
    arm: StudyArm, data: DataInterface, workload: Workload
) -> tuple[ArmCost, ParameterParts]:
    """The cost of one arm for a workload, and its parameters by what they are."""
    model = structure(arm, data)
    masked = training_flops(model, workload)
    full = training_flops(model, workload, full_attention=True)
    cost = ArmCost(
        arm.description,
        count_parameters(model),
        count_active_parameters(model),
        sum(masked.values()),
        sum(full.values()),
        masked,
    )
    return cost, parameter_parts(model)


def arm_router_flops(arm: StudyArm, data: DataInterface, workload: Workload) -> float:
    """FLOPs per step of the routers of the arm's experts, which its cost includes."""
    return router_flops(structure(arm, data), workload)


def structure(arm: StudyArm, data: DataInterface) -> MultimodalModel:
    """The arm's network, without any memory for its weights."""
    with torch.device("meta"):
        model = MultimodalModel(arm.model.backbone, arm.wiring, arm.model.diffusion, data)
    freeze(model, arm.model.freeze)
    return model


def cost_table(title: str, costs: Mapping[str, ArmCost], baseline: str) -> Table:
    """Every arm's cost, for the terminal."""
    columns = ("arm", "parameters", "active", "GFLOPs per step", "of baseline", "what it is")
    table = Table(*columns, title=title)
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{cost.parameters / 1e6:.2f}M",
            f"{cost.active_parameters / 1e6:.2f}M",
            f"{cost.flops_per_step / 1e9:.2f}",
            f"{cost.flops_per_step / costs[baseline].flops_per_step:.3f}",
            cost.description,
        )
    return table


def nominal_workload(data: DataConfig) -> Workload:
    """One step as the configuration alone lets one expect it: full rows, as many tokens of every
    modality, plain causal attention over the row. A study measures its own batches instead.
    """
    interface = data.interface()
    modalities, latents = interface.modalities, interface.latents
    share = data.rows * data.row_length / len(modalities)
    return Workload(
        tokens=dict.fromkeys(modalities, share),
        pairs=dict.fromkeys(modalities, share * (data.row_length + 1) / 2),
        full_pairs=dict.fromkeys(modalities, share * data.row_length),
        predictions={name: share for name in modalities if name != interface.diffused},
        images=share / latents.length if latents else 0.0,
    )
