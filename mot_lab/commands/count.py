"""``mot-lab count``: parameters, FLOPs and memory of every arm, from structure alone."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, command

if TYPE_CHECKING:
    from mot_lab.config import StudyConfig
    from mot_lab.counting import ArmCost
    from mot_lab.memory import MemoryParts
    from mot_lab.parameter_parts import ParameterParts

COLUMNS = ("size", "× baseline", "routers", "norms", "codec", "parameters", "active", "FLOPs/step")
EXPLAINED = (
    "size: matrices of all towers and experts, input and output embeddings; what the MoT paper's "
    "labels count. Routers, norms (QK-norms included) and the patch codec come on top. active: "
    "what one token passes through. FLOPs: a step of full rows, as many tokens of every modality, "
    "plain causal attention, patch codec included."
)
MEMORY_COLUMNS = (
    *("weights", "gradients", "optimiser", "EMA", "bf16 copies", "gathered"),
    *("activations", "logits", "their gradients", "GB"),
)
MEMORY = (
    "Memory of one GPU in 1e9 bytes, by part; precision auto is bf16 autocast over fp32 weights. "
    "bf16 copies: of the weights, as autocast keeps them. gathered: whole blocks where weights are "
    "sharded. logits: what the losses keep. The most that there is at once is somewhat less than "
    "the sum, because gradients are made while activations go; a library's own buffers come on top."
)


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "count", _run, "parameters, FLOPs and memory of every arm, from structure alone"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--memory", action="store_true", help="memory of training on one GPU too, part by part"
    )
    parser.add_argument(
        "--rows-per-gpu", type=int, metavar="R", help="of a step at once (default: data.rows)"
    )
    parser.add_argument(
        "--shards", type=int, default=1, metavar="N", help="GPUs that share the weights (FSDP)"
    )


def _run(options: argparse.Namespace) -> None:
    from mot_lab.config import load_study
    from mot_lab.counting import arm_cost_and_parts, nominal_workload

    config = load_study(options.config, options.overrides)
    workload = nominal_workload(config.data)
    data = config.data.interface()
    counted = {arm.name: arm_cost_and_parts(arm, data, workload) for arm in config.parsed_arms}
    memory = _memory(config, options)
    if options.json:
        content = {
            name: {**asdict(cost), "size": parts.size, "parts": asdict(parts)}
            for name, (cost, parts) in counted.items()
        }
        for name, each in memory.items():
            content[name]["memory"] = {**asdict(each), "total": each.total}
        print(json.dumps(content, indent=2))
        return
    baseline = counted[config.baseline][1].size
    rows = [_row(name, cost, parts, baseline) for name, (cost, parts) in counted.items()]
    print(_aligned([("arm", *COLUMNS), *rows]))
    if {"mot", "moe_4x"} <= counted.keys():
        ratio = counted["mot"][0].parameters / counted["moe_4x"][0].parameters
        print(f"mot has {ratio:.4f} times the parameters of moe_4x.")
    print(textwrap.fill(EXPLAINED, 100))
    if memory:
        lines = [
            (name, *(f"{part / 1e9:,.2f}" for part in (*asdict(each).values(), each.total)))
            for name, each in memory.items()
        ]
        print(_aligned([("arm", *MEMORY_COLUMNS), *lines]))
        print(textwrap.fill(MEMORY, 100))


def _memory(config: StudyConfig, options: argparse.Namespace) -> dict[str, MemoryParts]:
    """By arm; nothing where it is not asked for."""
    from mot_lab.memory import arm_memory, nominal_pass

    rows = config.data.rows if options.rows_per_gpu is None else options.rows_per_gpu
    if not options.memory:
        if options.rows_per_gpu is not None or options.shards != 1:
            raise ValueError("--rows-per-gpu and --shards are of --memory: give that too")
        return {}
    if not 1 <= rows <= config.data.rows:
        raise ValueError(f"--rows-per-gpu {rows} must be from 1 to data.rows {config.data.rows}")
    data = config.data.interface()
    return {
        arm.name: arm_memory(arm, data, nominal_pass(config.data, arm, rows), options.shards)
        for arm in config.parsed_arms
    }


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
