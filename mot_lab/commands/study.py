"""``mot-lab study``: train and compare all arms of a study, or of every rung of a ladder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, add_tracking_uri, command

if TYPE_CHECKING:
    from mot_lab.config import StudyConfig
    from mot_lab.ladder import Ladder


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "train and compare all arms of a study, or of every rung of a ladder, and report"
    parser = command(commands, "study", _run, what)
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
    from mot_lab.config import MOST_SEEDS, load_study, read_settings
    from mot_lab.ladder import read_ladder
    from mot_lab.parsing import printable

    overrides = list(options.overrides)
    if options.seeds is not None:
        if not 1 <= options.seeds <= MOST_SEEDS:
            raise ValueError(f"--seeds {options.seeds} must be at least 1 and at most {MOST_SEEDS}")
        overrides.append(f"seeds={list(range(options.seeds))}")
    settings = read_settings(options.config, overrides)
    if "ladder" in settings:
        _run_ladder(read_ladder(settings, str(options.config)), options)
        return
    config = load_study(options.config, overrides)
    text = options.config.read_text()
    if overrides:
        text += "\n# changed on the command line: " + printable(" ".join(overrides)) + "\n"
    _run_study(config, text, options.runs / config.name, options)


def _run_ladder(ladder: "Ladder", options: argparse.Namespace) -> None:
    from evaluation.ladder.report import build_ladder_report

    folder = options.runs / ladder.name
    ladder.begin(folder)
    for place, rung in enumerate(ladder.rungs, start=1):
        where = f"Rung {place} of {len(ladder.rungs)}, {rung.name}"
        if rung.is_finished(folder / rung.name):
            print(f"{where}: finished and kept")
            continue
        print(where)
        _run_study(rung.config, rung.text, folder / rung.name, options)
    print(f"The report of the ladder is in {build_ladder_report(folder)}")


def _run_study(config: "StudyConfig", text: str, folder: Path, options: argparse.Namespace) -> None:
    from evaluation.report.build import build_report
    from evaluation.trained.runs import evaluate_run, prepare_evaluators
    from mot_lab.study import Study

    study = Study(config, text, folder, options.tracking_uri, options.allow_unequal)
    study.run(prepare_evaluators, evaluate_run)
    page = build_report(study.tracking_uri, config.name, study.folder)
    print(f"The report is in {page}")
    print(study.tracker.how_to_compare())
