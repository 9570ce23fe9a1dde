"""``mot-lab study``: train and compare all arms of a study, or of every rung of a ladder."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, add_tracking_uri, command

if TYPE_CHECKING:
    from mot_lab.config import StudyConfig
    from mot_lab.ladder import Ladder
    from mot_lab.slurm.submit import Submitted


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
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="where runs train: here (default), or each in a job of a SLURM cluster",
    )
    parser.add_argument(
        "--gpus", metavar="0,1,..", help="of this machine, one run at a time on each (local only)"
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="leave the jobs at work (slurm only); the same command without it waits for them",
    )
    parser.add_argument(
        "--only",
        metavar="RUN",
        help="train this run (an arm-seedN) alone, in this process; the study finds it trained",
    )


def _run(options: argparse.Namespace) -> None:
    from mot_lab.config import MOST_SEEDS, load_study, read_settings
    from mot_lab.ladder import read_ladder
    from mot_lab.parsing import printable

    gpus = _launcher_gpus(options)
    overrides = list(options.overrides)
    if options.seeds is not None:
        if not 1 <= options.seeds <= MOST_SEEDS:
            raise ValueError(f"--seeds {options.seeds} must be at least 1 and at most {MOST_SEEDS}")
        overrides.append(f"seeds={list(range(options.seeds))}")
    settings = read_settings(options.config, overrides)
    if "ladder" in settings:
        if options.only is not None:
            raise ValueError("--only is of one study: give it a file without ladder")
        _run_ladder(read_ladder(settings, str(options.config)), options, gpus)
        return
    config = load_study(options.config, overrides)
    text = options.config.read_text()
    if overrides:
        text += "\n# changed on the command line: " + printable(" ".join(overrides)) + "\n"
    folder = options.runs / config.name
    if options.only is not None:
        _train_one(config, folder, options.only)
    elif options.launcher == "slurm":
        _follow([_submit(config, text, folder, options)], options)
    else:
        _run_study(config, text, folder, options.tracking_uri, options.allow_unequal, gpus)


def _launcher_gpus(options: argparse.Namespace) -> list[str]:
    """The GPUs that runs are spread over. This process, which measures peaks and step times, sees
    the first of them alone from here on.
    """
    from mot_lab.runtime.gpus import VISIBLE, chosen_gpus

    if options.launcher == "slurm" and options.gpus is not None:
        raise ValueError("--gpus is for --launcher local; a job has slurm.gpus_per_task=N of them")
    if options.launcher == "local" and options.no_wait:
        raise ValueError("--no-wait is for --launcher slurm; here the study is the command itself")
    if options.only is not None and (options.launcher == "slurm" or options.gpus is not None):
        raise ValueError("--only trains in this process: it goes without --launcher and --gpus")
    if options.gpus is None:
        return []
    gpus = chosen_gpus(options.gpus)
    os.environ[VISIBLE] = gpus[0]
    return gpus


def _run_ladder(ladder: "Ladder", options: argparse.Namespace, gpus: list[str]) -> None:
    from evaluation.ladder.report import build_ladder_report

    folder = options.runs / ladder.name
    ladder.begin(folder)
    submitted = []
    for place, rung in enumerate(ladder.rungs, start=1):
        where = f"Rung {place} of {len(ladder.rungs)}, {rung.name}"
        if rung.is_finished(folder / rung.name):
            print(f"{where}: finished and kept")
            continue
        print(where)
        study = rung.config, rung.text, folder / rung.name
        if options.launcher == "slurm":  # all rungs before the first is waited for
            submitted.append(_submit(*study, options))
        else:
            _run_study(*study, options.tracking_uri, options.allow_unequal, gpus)
    if _follow(submitted, options):
        print(f"The report of the ladder is in {build_ladder_report(folder)}")


def _train_one(config: "StudyConfig", folder: Path, name: str) -> None:
    """What a job script of one's own calls for a run that needs a job of its own making."""
    from mot_lab.peaks import study_peaks
    from mot_lab.study import Study
    from mot_lab.training import runs_of, train
    from mot_lab.utilisation import StepWork

    runs = {run.name: run for run in runs_of(config, folder)}
    if name not in runs:
        raise ValueError(f"--only {name}: the study's runs are {', '.join(runs)}")
    run = runs[name]
    if run.is_trained():
        print(f"{name} is trained already and kept")
        return
    print(f"Training {name}; its curves are in {run.folder.metrics_path}", flush=True)
    flops = Study(config, "", folder).costs()[run.arm].flops_per_step
    folder.mkdir(parents=True, exist_ok=True)
    train(run, None, StepWork(flops, study_peaks(config, folder)[run.arm]))
    print(f"{name} is trained; mot-lab study without --only does the rest")


def _run_study(
    config: "StudyConfig",
    text: str,
    folder: Path,
    tracking_uri: str | None,
    allow_unequal: bool,
    gpus: Sequence[str] = (),
) -> None:
    """A whole study in this process and its workers. On a cluster the gathering job calls it, and
    finds all runs trained and scored.
    """
    from evaluation.report.build import build_report
    from evaluation.trained.runs import evaluate_run, prepare_evaluators
    from mot_lab.study import Study

    if gpus:
        config = replace(config, parallel_runs=len(gpus))
    study = Study(config, text, folder, tracking_uri, allow_unequal, gpus)
    study.run(prepare_evaluators, evaluate_run)
    page = build_report(study.tracking_uri, config.name, study.folder)
    print(f"The report is in {page}")
    print(study.tracker.how_to_compare())


def _submit(
    config: "StudyConfig", text: str, folder: Path, options: argparse.Namespace
) -> "Submitted":
    from evaluation.trained.runs import evaluate_run, prepare_evaluators
    from mot_lab.study import Study

    try:
        from mot_lab.slurm.submit import submit_study
    except ImportError as error:
        raise ValueError(
            f"--launcher slurm needs the package {error.name}: pip install 'mot-lab[slurm]'"
        ) from None
    config = replace(config, parallel_runs=1)  # a run has its job to itself
    call = (config, text, folder, options.tracking_uri, options.allow_unequal)
    return submit_study(Study(*call), prepare_evaluators, evaluate_run, partial(_run_study, *call))


def _follow(submitted: "Sequence[Submitted]", options: argparse.Namespace) -> bool:
    """Wait for studies on a cluster, unless that is not wanted; whether all are finished now."""
    if not submitted:
        return True
    from rich.console import Console

    from mot_lab.slurm.follow import follow_study, how_to_go_on

    for each in submitted:
        if options.no_wait:
            print(f"Not waiting: {how_to_go_on(each)}")
        else:
            follow_study(each, Console())
    return not options.no_wait
