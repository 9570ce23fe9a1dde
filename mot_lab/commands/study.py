"""``mot-lab study``: train and compare all arms of a study, and report."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_config, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "study", _run, "train and compare all arms of a study, and report")
    add_config(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all studies")
    add_tracking_uri(parser)


def _run(options: argparse.Namespace) -> None:
    from evaluation.report import build_report
    from evaluation.trained_runs import evaluate_run, prepare_evaluators
    from mot_lab.config import load_study
    from mot_lab.study import Study

    config = load_study(options.config, options.overrides)
    text = options.config.read_text()
    if options.overrides:
        text += "\n# changed on the command line: " + " ".join(options.overrides) + "\n"
    study = Study(config, text, options.runs / config.name, options.tracking_uri)
    study.run(prepare_evaluators, evaluate_run)
    page = build_report(study.tracking_uri, config.name, study.folder)
    print(f"The report is in {page}")
