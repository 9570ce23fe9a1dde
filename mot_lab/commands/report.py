"""``mot-lab report``: rebuild a study's report from its tracking store, or set studies beside."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_tracking_uri, command


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "rebuild a study's report from its tracking store, or lay several studies side by side"
    parser = command(commands, "report", _run, what)
    which = "folder of a study, like runs/transfusion; two to five of them stand side by side"
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help=which)
    add_tracking_uri(parser)
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write to (default: the study's; of several, compared/ beside the first)",
    )


def _run(options: argparse.Namespace) -> None:
    from evaluation.report.build import build_report
    from evaluation.report.pair import build_pair_report
    from evaluation.store.read import read_study
    from mot_lab.runtime.mlflow_store import default_tracking_uri

    first, *others = options.studies
    uris = [options.tracking_uri or default_tracking_uri(study) for study in options.studies]
    if not others:
        page = build_report(uris[0], first.name, options.out or first)
    else:
        names = [study.name for study in options.studies]
        out = options.out or first.parent / "compared" / "-and-".join(names)
        records = [read_study(uri, name) for uri, name in zip(uris, names, strict=True)]
        page = build_pair_report(records, out)
    print(f"The report is in {page}")
