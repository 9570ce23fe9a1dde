"""``mot-lab count``: parameters and FLOPs of every arm, from structure alone."""

import argparse
import json
from dataclasses import asdict

from mot_lab.commands import Commands, add_config, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "count", _run, "parameters and FLOPs of every arm, from structure alone"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> None:
    from mot_lab.config import load_study
    from mot_lab.counting import arm_cost, nominal_workload

    config = load_study(options.config, options.overrides)
    workload = nominal_workload(config.data)
    data = config.data.interface()
    costs = {arm.name: arm_cost(arm, data, workload) for arm in config.parsed_arms}
    if options.json:
        print(json.dumps({name: asdict(cost) for name, cost in costs.items()}, indent=2))
        return
    print(f"{'arm':18} {'parameters':>14} {'active':>14} {'FLOPs per step':>16}")
    for name, cost in costs.items():
        print(
            f"{name:18} {cost.parameters:14,} {cost.active_parameters:14,} "
            f"{cost.flops_per_step:16.4e}"
        )
    print("A step of full rows, half of the tokens image patches, plain causal attention.")
