"""``mot-lab fit-router``: give an arm with experts its causal routing."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "fit the auxiliary routers that let an arm with experts generate"
    parser = command(commands, "fit-router", _run, what)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    unset = argparse.SUPPRESS  # the defaults are RouterConfig's
    parser.add_argument("--steps", type=int, default=unset, help="training batches")
    parser.add_argument("--lr", type=float, default=unset, help="learning rate at the first step")
    parser.add_argument("--final-lr", type=float, default=unset, help="and at the last")
    parser.add_argument("--threshold", type=float, default=unset, help="of the scores")
    parser.add_argument("--seed", type=int, default=unset)


def _run(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from mot_lab.causal_router import RouterConfig, router_path
    from mot_lab.fit_router import fit_checkpoint

    names = [field.name for field in fields(RouterConfig)]
    config = RouterConfig(**{k: v for k, v in vars(options).items() if k in names})
    router, fitted = fit_checkpoint(options.checkpoint, config, "fitting routers")
    quality = router.quality
    print(
        f"{len(router.routers)} routers of {router.parameters:,} weights, "
        f"{router.config.steps} steps; of the decisions on held-out tokens "
        f"{quality.accuracy:.1%} are those of top-k "
        f"(precision {quality.precision:.1%}, recall {quality.recall:.1%})"
    )
    print(f"{'Written to' if fitted else 'Kept as it was in'} {router_path(options.checkpoint)}")
