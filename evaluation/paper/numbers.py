"""The paper's part of ``report.json``: the slopes that a study asks for, and their words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evaluation.paper.slopes import PaperSlope, paper_slopes
from evaluation.paper.tables import FIGURES
from evaluation.wording import Numbers
from mot_lab.paper_figures import parse_paper_figure

PLACE = ("arm", "modality", "curve", "axis")  # what a slope of ours and one of the paper share
Row = Mapping[str, Any]


def paper_numbers(
    names: Sequence[str], arms: Collection[str], modalities: Collection[str]
) -> dict[str, Any]:
    """The named figures, and of their slopes those that a study can stand beside.

    Args:
        names: of figures, like ``figure_6`` or ``figure_6/443M``.
        arms, modalities: of the study.

    Returns:
        ``figures``: name, what it shows and facts of each; ``slopes``: one row each; ``left_out``:
        the arms and modalities of the paper's slopes that the study has not.
    """
    figures = list(dict.fromkeys(parse_paper_figure(name)[0] for name in names))
    slopes = paper_slopes(names)
    absent_arms = {each.arm for each in slopes} - {*arms}
    absent_modalities = {each.modality for each in slopes} - {*modalities}
    return {
        "figures": [
            {"figure": name, "shows": FIGURES[name].shows, "facts": list(FIGURES[name].facts)}
            for name in figures
        ],
        "slopes": [asdict(each) for each in slopes if _fits(each, arms, modalities)],
        "left_out": [*sorted(absent_arms), *sorted(absent_modalities)],
    }


def _fits(slope: PaperSlope, arms: Collection[str], modalities: Collection[str]) -> bool:
    return slope.arm in arms and slope.modality in modalities


def own_slope(numbers: Numbers, row: Row) -> Row:
    """The study's own matching of the arm, modality, curve and axis of a paper's slope."""
    (found,) = [one for one in numbers["matching"] if all(one[key] == row[key] for key in PLACE)]
    return found


def series(row: Row) -> str:
    """What a paper's slope is called in figures and tables, like "paper, 443M, 16 GPUs"."""
    return ", ".join(part for part in ("paper", row["size"], row["detail"]) if part)


def figure_name(figure: str) -> str:
    """``figure_6`` in words."""
    return figure.replace("_", " ")
