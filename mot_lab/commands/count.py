"""``mot-lab count``: parameters and FLOPs of every arm, from structure alone."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, command

if TYPE_CHECKING:
    from mot_lab.counting import ArmCost
    from mot_lab.parameter_parts import ParameterParts

COLUMNS = ("size", "× baseline", "routers", "norms", "codec", "parameters", "active", "FLOPs/step")
EXPLAINED = (
    "size: matrices of all towers and experts, input and output embeddings; what the MoT paper's "
    "labels count. Routers, norms (QK-norms included) and the patch codec come on top. active: "
    "what one token passes through. FLOPs: a step of full rows, as many tokens of every modality, "
    "plain causal attention, patch codec included."
)


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "count", _run, "parameters and FLOPs of every arm, from structure alone"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> None:
    from mot_lab.config import load_study
    from mot_lab.counting import arm_cost_and_parts, nominal_workload

    config = load_study(options.config, options.overrides)
    workload = nominal_workload(config.data)
    data = config.data.interface()
    counted = {arm.name: arm_cost_and_parts(arm, data, workload) for arm in config.parsed_arms}
    if options.json:
        content = {
            name: {**asdict(cost), "size": parts.size, "parts": asdict(parts)}
            for name, (cost, parts) in counted.items()
        }
        print(json.dumps(content, indent=2))
        return
    baseline = counted[config.baseline][1].size
    rows = [_row(name, cost, parts, baseline) for name, (cost, parts) in counted.items()]
    print(_aligned([("arm", *COLUMNS), *rows]))
    if {"mot", "moe_4x"} <= counted.keys():
        ratio = counted["mot"][0].parameters / counted["moe_4x"][0].parameters
        print(f"mot has {ratio:.4f} times the parameters of moe_4x.")
    print(textwrap.fill(EXPLAINED, 100))


def _row(name: str, cost: ArmCost, parts: ParameterParts, baseline: int) -> tuple[str, ...]:
    return (
        name,
        f"{parts.size / 1e6:,.1f}M",
        f"{parts.size / baseline:.3f}",
        *(f"{part:,}" for part in (parts.routers, parts.norms, parts.codec)),
        f"{cost.parameters:,}",
        f"{cost.active_parameters:,}",
        f"{cost.flops_per_step:.4e}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines: the first column flush left, the others flush right, as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        first.ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in rows
    )
