"""``mot-lab study``: train and compare all arms of a study, and report."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_config, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "study", _run, "train and compare all arms of a study, and report")
    add_config(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all studies")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train every arm with seeds 0 .. N - 1"
    )
    parser.add_argument(
        "--allow-unequal",
        action="store_true",
        help="go on where arms are not compared on equal terms; the report says so",
    )
    add_tracking_uri(parser)


def _run(options: argparse.Namespace) -> None:
    from evaluation.report.build import build_report
    from evaluation.trained.runs import evaluate_run, prepare_evaluators
    from mot_lab.config import load_study
    from mot_lab.study import Study

    overrides = list(options.overrides)
    if options.seeds is not None:
        if options.seeds < 1:
            raise ValueError(f"--seeds {options.seeds} must be at least 1")
        overrides.append(f"seeds={list(range(options.seeds))}")
    config = load_study(options.config, overrides)
    text = options.config.read_text()
    if overrides:
        text += "\n# changed on the command line: " + " ".join(overrides) + "\n"
    folder = options.runs / config.name
    study = Study(config, text, folder, options.tracking_uri, options.allow_unequal)
    study.run(prepare_evaluators, evaluate_run)
    page = build_report(study.tracking_uri, config.name, study.folder)
    print(f"The report is in {page}")
    print(study.tracker.how_to_compare())
