"""``mot-lab report``: rebuild a study's report from its tracking store."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "report", _run, "rebuild a study's report from its tracking store")
    parser.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    add_tracking_uri(parser)
    parser.add_argument("--out", type=Path, help="folder to write to (default: the study's)")


def _run(options: argparse.Namespace) -> None:
    from evaluation.report import build_report
    from mot_lab.runtime.mlflow_store import default_tracking_uri

    uri = options.tracking_uri or default_tracking_uri(options.study)
    print(f"The report is in {build_report(uri, options.study.name, options.out or options.study)}")
