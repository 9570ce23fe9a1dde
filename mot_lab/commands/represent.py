"""``mot-lab represent``: what the layers make of each modality."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, command

if TYPE_CHECKING:
    from evaluation.representation.record import Representation

FORMATS = (".png", ".svg")
ROUTINGS = {
    "none": "",
    "causal": "causal routing",
    "training": "training routing, which sees other tokens: no router was fitted",
}


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "hidden states by layer and modality: components, and how far apart the modalities are"
    parser = command(commands, "represent", _run, what)
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="checkpoint, run's folder, or study's folder (every arm with its first seed)",
    )
    parser.add_argument("--split", default="val", help="val, test or unseen (default: val)")
    parser.add_argument(
        "--tokens", type=int, default=2000, help="in all, as many of each modality (2000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the tokens drawn (0)")
    parser.add_argument(
        "--noised",
        action="store_true",
        help="feed denoised pictures with noise, as in validation (default: clean)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder (default: representation/ beside what is named)"
    )


def _run(options: argparse.Namespace) -> None:
    out = options.out or _beside(options.checkpoints)

    from evaluation.figures.style import save_figure
    from evaluation.representation.checkpoints import find_checkpoints
    from evaluation.representation.figures import components_figure, separation_figure
    from evaluation.representation.record import write_representation
    from evaluation.representation.represent import represent

    sources = find_checkpoints(options.checkpoints)
    found = represent(sources, options.split, options.tokens, options.seed, options.noised)
    write_representation(found, out)
    figures = {"components": components_figure(found), "separation": separation_figure(found)}
    for name, figure in figures.items():
        for suffix in FORMATS:
            save_figure(figure, out / f"{name}{suffix}")
    _print(found)
    print(f"Written to {out}")


def _beside(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} checkpoints: say with --out FOLDER where the result goes")
    (path,) = paths
    return (path if path.is_dir() else path.parent) / "representation"


def _print(found: "Representation") -> None:
    from rich.console import Console
    from rich.table import Table

    counts = ", ".join(f"{count:,} of {name}" for name, count in found.counts().items())
    fed = ", pictures noised as in validation" if found.noised else ""
    print(f"tokens: {counts}, from {found.documents:,} documents of the {found.split} split{fed}")
    for arm in found.arms:
        if routing := ROUTINGS[arm.routing]:
            print(f"{arm.label}: {routing}")
    measures = list(found.arms[0].depths[0].scores)
    table = Table("arm", "layer", *(name.replace("_", " ") for name in measures), box=None)
    for arm in found.arms:
        for depth in arm.depths:
            scores = [depth.scores[name] for name in measures]
            cells = [f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in scores]
            table.add_row(arm.label, depth.name, *cells)
    Console(width=120, highlight=False).print(table)
    print("In brackets: 95% interval over documents")
