"""``mot-lab sync``: send a tracking store what it lacks of a study's runs."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "sync", _run, "send a tracking store what it lacks of a study's runs"
    )
    parser.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    add_tracking_uri(parser)


def _run(options: argparse.Namespace) -> None:
    from mot_lab.runtime.mlflow_store import default_tracking_uri
    from mot_lab.runtime.sending import sync_run

    runs = sorted(path.parent for path in options.study.glob("*/run.json"))
    if not runs:
        raise ValueError(f"{options.study} holds no runs")
    uri = options.tracking_uri or default_tracking_uri(options.study)
    for run in runs:
        print(f"{run.name}: {sync_run(run, uri)} values sent to {uri}")
