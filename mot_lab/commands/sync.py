"""``mot-lab sync``: send a tracking store what it lacks of a study."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "sync", _run, "send a tracking store what it lacks of a study")
    parser.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    add_tracking_uri(parser)


def _run(options: argparse.Namespace) -> None:
    from mot_lab.runtime.mlflow_store import default_tracking_uri
    from mot_lab.runtime.study_sending import send_study

    uri = options.tracking_uri or default_tracking_uri(options.study)
    for run, count in send_study(options.study, uri).items():
        print(f"{run}: {count} values sent to {uri}")
