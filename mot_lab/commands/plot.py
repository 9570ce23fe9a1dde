"""``mot-lab plot``: one figure of a study's report, alone, from its tracking store."""

import argparse
from pathlib import Path

from evaluation.figures.registry import FIGURES, View, draw_figure, find_figure
from mot_lab.commands import Commands, add_tracking_uri, command

SUFFIXES = (".png", ".svg", ".pdf")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "plot", _run, "draw one figure of a study's report, alone")
    parser.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    listed = "; ".join(f"{name} ({kind.shows})" for name, kind in FIGURES.items())
    parser.add_argument("--figure", required=True, metavar="NAME", help=f"which one: {listed}")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write; its suffix is .png, .svg or .pdf"
    )
    parser.add_argument("--modality", help="such as text or image; loss and step_matching need it")
    parser.add_argument(
        "--curve",
        help="train or val (default: both for loss, train for step_matching, val for sensitivity)",
    )
    parser.add_argument(
        "--axis", help="steps, flops or seconds (default: all for loss, steps for step_matching)"
    )
    add_tracking_uri(parser)


def _run(options: argparse.Namespace) -> None:
    if options.out.suffix not in SUFFIXES:
        raise ValueError(
            f"--out {options.out}: the suffix {options.out.suffix!r} is none of "
            f"{', '.join(SUFFIXES)}"
        )
    view = View(options.modality, options.curve, options.axis)
    find_figure(options.figure, view)  # before the store is read, which takes a while

    from evaluation.figures.style import save_figure
    from evaluation.store.read import read_study
    from mot_lab.runtime.mlflow_store import default_tracking_uri
    from mot_lab.runtime.study_folder import study_name

    uri = options.tracking_uri or default_tracking_uri(options.study)
    study = read_study(uri, study_name(options.study))
    path = save_figure(draw_figure(study, options.figure, view), options.out)
    print(f"The figure is in {path}")
