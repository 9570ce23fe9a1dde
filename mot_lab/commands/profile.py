"""``mot-lab profile``: what a training step of every arm costs here, and where its time goes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, command

if TYPE_CHECKING:
    from rich.console import Console

    from mot_lab.profiling import ArmProfile

STEPS = 20
COSTS = ("arm", "ms a step", "quartiles", "× baseline", "tokens/s", "MFU", "memory", "waiting")
EXPLAINED = (
    "A step alone, arms taking turns on the same batches: forward, backward, clipping, optimiser. "
    "MFU: FLOPs of the step (masked attention) over the median and the peak. Memory: tensors, by "
    "the profiler's account. Waiting: what making a batch takes of a step with its batch, where "
    "no workers make it ahead (training.num_workers). What a run cost as it trained, beside other "
    "runs, is in its report and logged as run_cost/*."
)


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "what a training step of every arm costs here and where its time goes, with traces"
    parser = command(commands, "profile", _run, what)
    add_config(parser)
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help="counted steps of every arm"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of traces and profile.json (default: profiles/STUDY)"
    )


def _run(options: argparse.Namespace) -> None:
    import torch
    from rich.console import Console

    from mot_lab.config import load_study
    from mot_lab.environment import environment
    from mot_lab.profiling import profile_study
    from mot_lab.runtime.files import write_json
    from mot_lab.runtime.workers import threads_each

    config = load_study(options.config, options.overrides)
    torch.set_num_threads(threads_each(config.parallel_runs))  # as the study's runs have
    out = options.out or Path("profiles") / config.name
    profiles = profile_study(config, options.steps, out)
    facts = environment(config.training.precision)
    arms = {name: {**asdict(each), "trace": each.trace.name} for name, each in profiles.items()}
    content = {
        "study": config.name,
        "baseline": config.baseline,
        "arms": arms,
        "environment": facts,
    }
    write_json(out / "profile.json", content)
    console = Console()
    _print(console, profiles, config.baseline)
    for source in dict.fromkeys(each.work.peak.source for each in profiles.values()):
        console.print(f"Peak: {source}.", highlight=False)
    console.print(EXPLAINED, highlight=False)
    console.print(
        f"{out} has profile.json and a trace per arm, for ui.perfetto.dev", highlight=False
    )


def _print(console: Console, profiles: dict[str, ArmProfile], baseline: str) -> None:
    from rich.table import Table

    from mot_lab.profiling import PARTS

    costs = Table(*COSTS, "compile", title="A training step of every arm")
    shares = Table("arm", *PARTS, title="Where its time goes, the making of its batch included")
    for name, each in profiles.items():
        time = each.time
        costs.add_row(
            name,
            f"{1e3 * time.median:.1f}",
            f"{1e3 * time.low:.1f} .. {1e3 * time.high:.1f}",
            f"{time.median / profiles[baseline].time.median:.3f}",
            f"{each.tokens_per_second:,.0f}",
            f"{each.model_flop_utilisation:.1%}",
            f"{each.peak_memory_gb:.3f} GB",
            f"{each.waiting_share:.2%}",
            f"{time.compile_seconds:.1f} s",
        )
        shares.add_row(name, *(f"{each.shares[part]:.1%}" for part in PARTS))
    console.print(costs)
    console.print(shares)
    for name, each in profiles.items():
        said = ", ".join(f"{operator} {share:.1%}" for operator, share in each.operators.items())
        console.print(f"Operators that take most in {name}: {said}", highlight=False)
