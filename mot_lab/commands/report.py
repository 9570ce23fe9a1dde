"""``mot-lab report``: rebuild the report of a study or a ladder, or set studies beside."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "rebuild a study's report from its tracking store, or lay several studies side by side"
    parser = command(commands, "report", _run, what)
    which = (
        "folder of a study, like runs/transfusion; two to five of them stand side by side; or that "
        "of a ladder, whose report is made from those of its rungs"
    )
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help=which)
    add_tracking_uri(parser)
    parser.add_argument(
        "--step-time-ratio",
        action="append",
        default=[],
        metavar="ARM=RATIO",
        help="give time matching at this ratio of seconds per step too, like mot=1.36; again for "
        "each further arm, in place of the study's own step_time_ratios",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write to (default: the study's; of several, compared/ beside the first)",
    )


def _run(options: argparse.Namespace) -> None:
    from evaluation.ladder.report import build_ladder_report, is_ladder
    from evaluation.report.build import build_report
    from evaluation.report.pair import build_pair_report
    from evaluation.store.read import read_study
    from mot_lab.runtime.mlflow_store import default_tracking_uri
    from mot_lab.runtime.study_folder import study_name
    from mot_lab.step_time_ratios import read_step_time_ratios

    first, *others = options.studies
    uris = [options.tracking_uri or default_tracking_uri(study) for study in options.studies]
    names = [study_name(study) for study in options.studies]
    ratios = read_step_time_ratios(options.step_time_ratio)
    if ratios and (others or is_ladder(first)):
        raise ValueError("--step-time-ratio is for the report of one study")
    if not others and is_ladder(first):
        page = build_ladder_report(first, options.out)
    elif not others:
        page = build_report(uris[0], names[0], options.out or first, ratios)
    else:
        out = options.out or first.parent / "compared" / "-and-".join(names)
        records = [read_study(uri, name) for uri, name in zip(uris, names, strict=True)]
        page = build_pair_report(records, out)
    print(f"The report is in {page}")
